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
	requests int  // of one fetch of every source of the interval, also of those in flight
	stale    bool // the due time of a queued entry has changed
}

// item is an entry in a queue; small, because fleets have many.
type item struct {
	due   time.Duration // since the cache's epoch
	entry *entry
}

func (q *queue) push(e *entry) { heap.Push(&q.items, item{due: e.due, entry: e}) }

func (q *queue) pop() *entry {
	it, _ := heap.Pop(&q.items).(item)
	return it.entry
}

// head returns the entry that is due first; nil if the queue is empty.
func (q *queue) head() *entry {
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0].entry
}

// due returns the entries due by horizon. In a heap they form a tree from the head, so
// no other entry is looked at but its rim.
func (q *queue) due(horizon time.Duration) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for stack := []int{0}; len(stack) > 0; {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if i < len(q.items) && q.items[i].due <= horizon {
				if !yield(q.items[i].entry) {
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

// reorder takes over the due times that entries have got while they were queued.
func (q *queue) reorder() {
	if !q.stale {
		return
	}
	q.stale = false
	for i := range q.items {
		q.items[i].due = q.items[i].entry.due
	}
	heap.Init(&q.items)
}

// removeGone removes the entries that are gone.
func (q *queue) removeGone() {
	q.items = slices.DeleteFunc(q.items, func(it item) bool { return it.entry.gone })
	heap.Init(&q.items)
}

// items implements [heap.Interface].
type items []item

func (h items) Len() int { return len(h) }

func (h items) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].entry.seq < h[j].entry.seq
}

func (h items) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *items) Push(x any) {
	it, _ := x.(item)
	*h = append(*h, it)
}

func (h *items) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = item{}
	*h = old[:len(old)-1]
	return last
}
