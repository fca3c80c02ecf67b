// Package portions passes many values from one goroutine to another, some at a time.
package portions

import (
	"iter"
	"sync"
)

// Ahead returns the values of seq in portions of size; the last one may be smaller. While
// one is used, a goroutine takes the next from seq. A portion is valid until the next one
// is taken, because its memory is used again. When the loop over the portions ends, also
// early, seq has ended.
func Ahead[T any](seq iter.Seq[T], size int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		portions, stop := make(chan []T), make(chan struct{})
		var work sync.WaitGroup
		defer work.Wait()
		defer close(stop)
		work.Go(func() {
			defer close(portions)
			var filled, other []T
			pass := func() bool {
				select {
				case portions <- filled:
					filled, other = other[:0], filled
					return true
				case <-stop:
					return false
				}
			}
			for value := range seq {
				if filled = append(filled, value); len(filled) == size && !pass() {
					return
				}
			}
			if len(filled) > 0 {
				pass()
			}
		})
		for portion := range portions {
			if !yield(portion) {
				return
			}
		}
	}
}
