package state

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// leaseLife is how long a claim outlives its process. It bounds, with heldRetry,
	// how long a source or an account waits for another replica.
	leaseLife = 10 * time.Second
	// wholeIdle is how long after its last fetch a process renews the claim of a whole
	// account. Then the claim expires, within 20 s of the fetch.
	wholeIdle = 8 * time.Second
)

// leases are the granted claims of this process. While there are any, they are renewed.
type leases struct {
	store *redisStore
	life  time.Duration // 0 for leaseLife
	work  sync.WaitGroup

	mu      sync.Mutex
	held    map[name]*lease // with an empty key: of the whole account
	running bool            // keep runs
	closed  bool
}

// lease is the right to fetch a source, or all of an account.
type lease struct {
	whole   bool
	token   uint64
	until   time.Time // the server may give it to another process after this
	lost    chan struct{}
	fetches map[string]uint64 // the tokens of the fetches in progress, by the source's key
	idle    time.Time         // since when there are none
}

// key names the lease of a claim. A source's key has a prefix, so that none is that
// of the whole account.
func leaseName(id, key string, whole bool) name {
	if whole {
		return name{id: id}
	}
	return name{id, "source:" + key}
}

func (l *leases) lifeTime() time.Duration {
	if l.life > 0 {
		return l.life
	}
	return leaseLife
}

func (l *leases) lifeMicros() int64 { return l.lifeTime().Microseconds() }

// add records a claim that the server was asked for at start, and returns what is
// closed when it is lost.
func (l *leases) add(id, key string, whole bool, token uint64, start time.Time) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(map[name]*lease)
	}
	n := leaseName(id, key, whole)
	one := l.held[n]
	if one == nil || !whole {
		one = &lease{whole: whole, token: token, lost: make(chan struct{}), fetches: make(map[string]uint64)}
		l.held[n] = one
	}
	one.until = start.Add(l.lifeTime())
	one.fetches[key] = token
	if !l.running && !l.closed {
		l.running = true
		l.work.Go(l.keep)
	}
	return one.lost
}

// end ends the fetch with a token. It reports whether its claim is one of the whole
// account, and whether the process still has it.
func (l *leases) end(id, key string, token uint64) (whole, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.held[leaseName(id, key, true)]; one != nil && token > 0 && one.fetches[key] == token {
		delete(one.fetches, key)
		one.idle = time.Now()
		return true, true
	}
	n := leaseName(id, key, false)
	if one := l.held[n]; one != nil && one.token == token {
		delete(l.held, n)
		return false, true
	}
	return false, false
}

// keep renews the leases, lets idle accounts go, and drops what is lost,
// until there are none.
func (l *leases) keep() {
	ticker := time.NewTicker(l.lifeTime() / 20)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.store.link.ctx.Done():
			return
		}
		now := time.Now()
		renew := make(map[string][]name)
		l.mu.Lock()
		for n, one := range l.held {
			switch {
			case !now.Before(one.until):
				l.lose(n, one)
			case one.whole && len(one.fetches) == 0 && now.Sub(one.idle) >= wholeIdle:
				delete(l.held, n)
			case one.until.Sub(now) < l.lifeTime()*2/3:
				renew[n.id] = append(renew[n.id], n)
			}
		}
		if len(l.held) == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for id, names := range renew {
			l.renew(id, names, l.lifeTime())
		}
	}
}

// lose drops a lease and ends its fetches. The caller holds the lock.
func (l *leases) lose(n name, one *lease) {
	delete(l.held, n)
	close(one.lost)
	for range one.fetches {
		l.store.observer.Claimed(Lost.String())
	}
}

// renew extends leases of an account by life; by 0 it releases them.
func (l *leases) renew(id string, names []name, life time.Duration) {
	s := l.store
	args := []any{s.owner, life.Microseconds(), int(Retention.Seconds())}
	renewed := make([]*lease, 0, len(names))
	l.mu.Lock()
	for _, n := range names {
		one := l.held[n]
		if one == nil {
			continue
		}
		renewed = append(renewed, one)
		key := ""
		if !one.whole {
			key = n.key[len("source:"):]
		}
		args = append(args, key, one.token, flag(one.whole))
		names[len(renewed)-1] = n
	}
	l.mu.Unlock()
	if len(renewed) == 0 {
		return
	}
	start := time.Now()
	var answer []any
	err := s.call(context.Background(), opClaim, func(ctx context.Context, c *redis.Client) (err error) {
		answer, err = s.run(ctx, c, renewScript, s.keys(id), args...)
		return err
	})
	if err != nil {
		return // they end by themselves
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, one := range renewed {
		if l.held[names[i]] != one {
			continue
		}
		if ok, _ := answer[i].(int64); ok == 1 {
			one.until = start.Add(life)
		} else {
			l.lose(names[i], one)
		}
	}
}

// release gives up all leases, for another process to go on at once.
func (l *leases) release() {
	l.mu.Lock()
	l.closed = true
	byID := make(map[string][]name)
	for n := range l.held {
		byID[n.id] = append(byID[n.id], n)
	}
	l.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		l.renew(id, byID[id], 0)
	}
}
