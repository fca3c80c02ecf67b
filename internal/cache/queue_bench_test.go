package cache

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkChooseNext takes the source that is due first and lines it up again one
// interval later, as each refresh does.
func BenchmarkChooseNext(b *testing.B) {
	const interval = 15 * time.Minute
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q := &queue{interval: interval, items: make(items, 0, n)}
			for i := range n {
				q.push(&entry{due: interval * time.Duration(i) / time.Duration(n), seq: uint32(i)})
			}
			b.ReportAllocs()
			for b.Loop() {
				e := q.pop()
				e.due += interval
				q.push(e)
			}
		})
	}
}
