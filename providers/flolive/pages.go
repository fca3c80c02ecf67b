package flolive

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	// maxPages bounds the pages of one list.
	maxPages = 100
	// maxPaged bounds the records of one list of pages. It is how many the listing
	// of subscribers by pages reaches; other lists have a few records.
	maxPaged = 10_000
	// documentedSize is how many records a page has in the documentation.
	documentedSize = 10
	// unpagedAge is how long [unpaged] counts.
	unpagedAge = 24 * time.Hour
)

// unpaged is what an account knows of one kind of list if its answers do not say
// which page they are. Each list then takes a second request, until one was whole
// that was as long. It is safe for concurrent use.
type unpaged struct {
	mu    sync.Mutex
	fits  int       // how many records an answer can have, at least
	until time.Time // when fits expires
	twice bool      // the last list took a second request
}

// whole reports that the n records of a first answer that says at are the whole list,
// if it does not say which page it is.
func (u *unpaged) whole(n int, at pageable) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.twice = at == pageable{} && n > 0 && (n > u.fits || !time.Now().Before(u.until))
	return !u.twice
}

// learn takes how many records the first and the second answer of a whole list had.
// If the second repeats the first, pages are ignored, or the last page stands for
// those beyond it. Therefore lists of a documented page or more are not learned. If
// the second is empty, a page may have just as many records as the first.
func (u *unpaged) learn(first, second int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if second == 0 {
		first--
	}
	if now := time.Now(); !now.Before(u.until) {
		u.fits, u.until = 0, now.Add(unpagedAge)
	}
	u.fits = max(u.fits, min(first, documentedSize-1))
}

// requests returns how many requests a list of one page takes.
func (u *unpaged) requests() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.twice {
		return 2
	}
	return 1
}

// readPages reads a list of pages. size is how many records to ask for per page, of
// a list that must state its total; 0 leaves it to the provider. The tally is never
// nil. The error wraps errNotWhole unless the pages prove to be the whole list.
//
// How to ask for a page is not documented. Page numbers count from 0, and the size
// of a page is the one that the answer states. The list ends where totalElements
// says, because totalPages may be rounded down; without totalElements it ends at an
// empty page. A list whose answers say nothing about pages, although the documented
// ones do, is whole if the second answer repeats the first, or if known says so.
func readPages[T any](ctx context.Context, a *account, path string, size int, known *unpaged, decode decoder[T]) (*tally[T], error) {
	t := newTally(maxPaged, decode)
	mustTotal, query := size > 0, ""
	first, alone := 0, false
	if mustTotal {
		query = pageQuery(0, size)
	}
	for number := range maxPages {
		e, err := a.ask(ctx, providers.Call{Path: path, Query: query})
		if err != nil {
			return t, err
		}
		at := e.Pageable
		if n, ok := at.Page.Count(); ok && n != number {
			return t, notWhole("the answer to page %d is page %d", number, n)
		}
		n, fresh, err := t.add(e.records, at.TotalElements)
		if err != nil {
			return t, err
		}
		if number == 0 {
			first, alone = n, known.whole(n, at)
		}
		pages, _ := at.TotalPages.Count()
		var done bool
		switch {
		case t.total >= 0:
			// The only page may have a record twice and count it twice.
			done = len(t.seen) == t.total || number == 0 && pages == 1 && n == t.total
		case mustTotal && n > 0:
			return t, notWhole("it has no total")
		case at == pageable{} && number == 0:
			done = alone
		case at == pageable{} && number == 1 && (n == 0 || fresh == 0 && n == first):
			known.learn(first, n)
			done = true
		default:
			done = n == 0 || at == pageable{} && fresh == 0
		}
		switch {
		case done && number+1 < pages:
			return t, notWhole("it ends on page %d of %d", number, pages)
		case done:
			return t, t.check()
		case fresh == 0:
			return t, notWhole("page %d has no new record after %d", number, len(t.seen))
		}
		if n, _ := at.Size.Count(); n > 0 {
			size = n
		}
		query = pageQuery(number+1, size)
	}
	return t, notWhole("it has no end after %d pages", maxPages)
}

func pageQuery(number, size int) string {
	if size == 0 {
		return fmt.Sprintf("page=%d", number)
	}
	return fmt.Sprintf("page=%d&size=%d", number, size)
}
