package exposition

import (
	"time"

	"github.com/balance-exporter/balance_exporter/collector"
)

// Cached returns how many bytes are cached for answering scrapes, for every format and
// encoding.
func (e *Exposition) Cached() []collector.CachedBytes {
	var bytes [formats][encodings]int
	for _, p := range e.set.Load().parts {
		for _, s := range p.segments {
			for f := range formats {
				for enc := range encodings {
					bytes[f][enc] += s.forms[f].Load().cached(enc)
				}
			}
		}
	}
	var cached []collector.CachedBytes
	for f := range formats {
		for enc := range encodings {
			cached = append(cached, collector.CachedBytes{Format: f.String(), Encoding: enc.String(), Bytes: bytes[f][enc]})
		}
	}
	return cached
}

// sweepLater makes sure that the bytes that are cached now are dropped if no scrape
// uses them.
func (e *Exposition) sweepLater() {
	if e.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(e.keepUnused, e.sweep)
	}
}

// sweep drops the forms that no scrape has used since the last sweep. It repeats while
// others are left.
func (e *Exposition) sweep() {
	e.sweeping.Store(false) // first, so that forms that are rendered meanwhile get their own sweep
	since := time.Now().Add(-e.keepUnused)
	left := false
	for _, p := range e.set.Load().parts {
		for _, s := range p.segments {
			left = s.drop(since) || left
		}
	}
	if left {
		e.sweepLater()
	}
}
