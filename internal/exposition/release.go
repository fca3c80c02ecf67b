package exposition

import (
	"runtime/debug"
	"sync"
	"time"
)

const (
	// releaseAfter is how many rendered bytes are worth a release: some 200 000
	// series.
	releaseAfter = 32 << 20
	// releaseDelay is how long nothing must have been rendered by then.
	releaseDelay = 5 * time.Second
)

// release gives memory back to the system after much was rendered. Gathering a
// segment takes about ten times its size, for a moment; Go would hold on to that
// for minutes, as little is allocated between changes.
type release struct {
	free func() // nil is debug.FreeOSMemory

	mu       sync.Mutex
	rendered int // bytes since the last time
	timer    *time.Timer
}

// note counts bytes that were rendered.
func (r *release) note(size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rendered += size
	switch {
	case r.rendered < releaseAfter:
	case r.timer == nil:
		r.timer = time.AfterFunc(releaseDelay, r.run)
	default:
		r.timer.Reset(releaseDelay)
	}
}

func (r *release) run() {
	r.mu.Lock()
	r.rendered = 0
	r.mu.Unlock()
	if r.free != nil {
		r.free()
		return
	}
	debug.FreeOSMemory()
}
