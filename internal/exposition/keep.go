package exposition

import (
	"time"

	"github.com/balance-exporter/balance_exporter/collector"
)

// Kept returns how many bytes are kept for answering scrapes, for every format and
// encoding.
func (e *Exposition) Kept() []collector.KeptBytes {
	var bytes [formats][encodings]int
	for _, p := range e.set.Load().parts {
		for _, s := range p.segments {
			for f := range formats {
				for enc := range encodings {
					bytes[f][enc] += s.forms[f].Load().kept(enc)
				}
			}
		}
	}
	var kept []collector.KeptBytes
	for f := range formats {
		for enc := range encodings {
			kept = append(kept, collector.KeptBytes{Format: f.String(), Encoding: enc.String(), Bytes: bytes[f][enc]})
		}
	}
	return kept
}

// sweepLater makes sure that what is kept now will be dropped if nobody asks for it.
func (e *Exposition) sweepLater() {
	if e.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(e.opts.KeepUnused, e.sweep)
	}
}

// sweep drops the forms that have not been asked for since the last time, and
// comes again while there are others.
func (e *Exposition) sweep() {
	e.sweeping.Store(false) // before looking, so that what is made meanwhile has its own
	since := time.Now().Add(-e.opts.KeepUnused)
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
