package cache

import (
	"container/heap"
	"iter"
	"slices"
	"time"
)

// queue orders the entries of one refresh interval by when they are due. Entries
// of one interval never overtake each other in lateness, so the choice between
// all sources of an account is one between the heads of its few queues.
type queue struct {
	interval time.Duration
	items    items
	requests int // of one fetch of every source of the interval, also of those in flight
}

func (q *queue) push(e *entry) { heap.Push(&q.items, e) }

// grow makes room for n more entries.
func (q *queue) grow(n int) { q.items = slices.Grow(q.items, n) }

func (q *queue) pop() *entry {
	e, _ := heap.Pop(&q.items).(*entry)
	return e
}

// remove takes e out, if it is in.
func (q *queue) remove(e *entry) {
	if e.queued() {
		heap.Remove(&q.items, int(e.place)-1)
	}
}

// reorder takes over a due time that e has got, if it is in.
func (q *queue) reorder(e *entry) {
	if e.queued() {
		heap.Fix(&q.items, int(e.place)-1)
	}
}

// order takes over the due times that entries have got.
func (q *queue) order() { heap.Init(&q.items) }

// head returns the entry that is due first; nil if the queue is empty.
func (q *queue) head() *entry {
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0]
}

// due returns the entries due by horizon. In a heap they form a tree from the head, so
// no other entry is looked at but its rim.
func (q *queue) due(horizon time.Duration) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for stack := []int{0}; len(stack) > 0; {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if i < len(q.items) && q.items[i].due <= horizon {
				if !yield(q.items[i]) {
					return
				}
				stack = append(stack, 2*i+1, 2*i+2)
			}
		}
	}
}

// countDue counts the entries due by horizon, to no more than most.
func (q *queue) countDue(horizon time.Duration, most int) int {
	n := 0
	if most > 0 {
		for range q.due(horizon) {
			if n++; n == most {
				break
			}
		}
	}
	return n
}

// items implements [heap.Interface]. Each entry knows its place in it.
type items []*entry

func (h items) Len() int { return len(h) }

func (h items) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].seq < h[j].seq
}

func (h items) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h.put(i)
	h.put(j)
}

// put notes the place of the entry at i, counted from 1: 0 is an entry that is not in.
func (h items) put(i int) { h[i].place = uint32(i) + 1 } //nolint:gosec // an index

func (h *items) Push(x any) {
	e, _ := x.(*entry)
	*h = append(*h, e)
	h.put(len(*h) - 1)
}

func (h *items) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	last.place = 0
	*h = old[:len(old)-1]
	return last
}
