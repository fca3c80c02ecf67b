package flolivesim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// Limits of listings, from
// https://kb.flolive.net/Content/API/Customer/Get%20All%20Customer%20Subscribers.htm.
const (
	maxPaged         = 10_000 // records that paging reaches
	maxChunk         = 10_000 // records in one chunk
	defaultChunk     = 1_000
	maxKeepAlive     = 30 // minutes
	defaultKeepAlive = 1  // minute
)

const defaultPageSize = 10

// page is the part of a list that a request asks for.
type page struct {
	number, size int
}

// page reads the parameters page and size. Their names are assumed: no request
// parameters are documented.
func (s *Server) page(query url.Values) (p page, ok bool) {
	n, numberOK := parameter(query, "page", 0)
	size, sizeOK := parameter(query, "size", s.pageSize())
	if !numberOK || !sizeOK || size == 0 {
		return page{}, false
	}
	if most := s.options.MaxPageSize; most > 0 {
		size = min(size, most)
	}
	if s.options.PageIgnored {
		n = 0
	}
	return page{number: n, size: size}, true
}

// paged answers one page of n entries.
func (s *Server) paged(n int, query url.Values, entry func(int) string) simulate.Answer {
	p, ok := s.page(query)
	if !ok {
		return s.failed(CodeInvalid)
	}
	first := n
	if p.number <= n/p.size { // else the product might overflow
		first = min(p.number*p.size, n)
	}
	last := first + min(p.size, n-first)
	entries := make([]string, 0, last-first)
	for i := first; i < last; i++ {
		entries = append(entries, entry(i))
	}
	pages := n / p.size
	if n%p.size > 0 {
		pages++
	}
	return s.success(entries, fmt.Sprintf(`{"page":%d,"size":%d,"totalPages":%d,"totalElements":%d}`,
		p.number, p.size, pages, n))
}

func (s *Server) pageSize() int {
	if s.options.PageSize == 0 {
		return defaultPageSize
	}
	return s.options.PageSize
}

// parameter returns a parameter that is no negative number.
func parameter(query url.Values, name string, otherwise int) (n int, ok bool) {
	text := query.Get(name)
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}

// listing answers GET /api/v2/customer/{id}/subscriber. Pages beyond maxPaged
// are documented as out of reach, but not what is answered for them; an error
// is assumed.
func (s *Server) listing(query url.Values, now time.Time) simulate.Answer {
	p, ok := s.page(query)
	if ok && p.number >= maxPaged/p.size {
		return s.failed(CodeCustomerFailed)
	}
	return s.paged(s.count(), query, func(i int) string {
		return s.record(s.options.Subscribers.At(i, now))
	})
}

func (s *Server) count() int {
	if s.options.Subscribers == nil {
		return 0
	}
	return s.options.Subscribers.Len()
}

// cursor is a place in the listing of all subscribers.
type cursor struct {
	next int // index of the first record not yet answered
	end  time.Time
}

// chunk answers POST /api/v2/customer/{id}/subscriber-all. Each request moves
// its cursor on, so that a request sent twice loses records. An unknown or
// expired pitId is answered with an error, which is assumed.
func (s *Server) chunk(body []byte, now time.Time) simulate.Answer {
	request := struct {
		PitID        string `json:"pitId"`
		PitKeepAlive int    `json:"pitKeepAlive"`
		Size         int    `json:"size"`
	}{PitKeepAlive: defaultKeepAlive, Size: defaultChunk}
	if len(body) > 0 && json.Unmarshal(body, &request) != nil {
		return s.failed(CodeInvalid)
	}
	if request.PitKeepAlive < 1 || request.PitKeepAlive > maxKeepAlive || request.Size < 1 || request.Size > maxChunk {
		return s.failed(CodeInvalid)
	}

	id := request.PitID
	at, known := s.cursors[id]
	if id != "" && (!known || !now.Before(at.end)) {
		delete(s.cursors, id)
		return s.failed(CodeCustomerFailed)
	}
	if id == "" || s.options.RotatePitID {
		delete(s.cursors, id)
		maps.DeleteFunc(s.cursors, func(_ string, c cursor) bool { return !now.Before(c.end) })
		s.issued++
		id = encode(fmt.Appendf(nil, "pit-%06d", s.issued))
	}

	n := s.count()
	first := min(at.next, n)
	last := first + min(request.Size, n-first)
	entries := make([]string, 0, last-first)
	for i := first; i < last; i++ {
		entries = append(entries, s.record(s.options.Subscribers.At(i, now)))
	}
	s.cursors[id] = cursor{next: last, end: now.Add(time.Duration(request.PitKeepAlive) * time.Minute)}

	return simulate.Answer{Body: fmt.Appendf(nil,
		`{"errorCode":"","errorMessage":"","content":%s,"pitId":%s,"recordAmount":%d,"totalRecordAmount":%d}`,
		s.content(entries), simulate.Quote(id), len(entries), n)}
}
