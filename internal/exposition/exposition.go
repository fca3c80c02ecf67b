// Package exposition answers scrapes at the cost of writing ready bytes.
//
// What one group of snapshots contributes to one metric family is a segment. A
// segment is gathered by an ordinary registry and rendered by expfmt when a scrape
// first needs it, then kept, deflated or as it is, until the group changes or one
// of its values ends. A scrape joins the kept bytes with a small fresh part, the
// exporter's own metrics. Gzip needs no second look at them either: the kept
// deflate blocks and checksums are stitched into one gzip member.
//
// Families come in the order of promhttp, and each has the bytes that promhttp
// gives it, with two exceptions. The lines of one family stand in the order of
// promhttp within a segment, and segments in the order of their accounts; so lines
// change places where two providers have accounts of the same name, and between
// the shards of a fleet. And series are checked for duplicates within a segment:
// that those of different segments differ follows from their labels provider and
// account, and within a fleet from subscriber.
//
// An error in a segment is logged and counted when it is rendered; the rest of it
// is shown, and so are the others.
//
// What is asked for rarely is left to promhttp, over the same collectors.
package exposition

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Options configure an [Exposition].
type Options struct {
	// Groups returns what is known, in the order of the configuration. A group
	// that has not changed must be the same one as before. Required.
	Groups func() []*snapshot.Group
	// Own gathers the exporter's own metrics, anew for every scrape. Nil is none.
	Own prometheus.Gatherer
	// Registerer gets the library's metrics about the handler, promhttp_*; it
	// should be part of Own. Nil leaves them out.
	Registerer prometheus.Registerer
	// Logger is told of errors. Nil is silent.
	Logger log.Logger
	// MaxInFlight is how many scrapes are answered at a time, 40 if it is zero; a
	// further one gets 503.
	MaxInFlight int
	// WriteTimeout is how long a client may take to read an answer, a minute if it
	// is zero.
	WriteTimeout time.Duration
	// KeepUnused is how long bytes are kept that no scrape asks for, 5 minutes if
	// it is zero. They are dropped before twice that time.
	KeepUnused time.Duration
}

func (o Options) withDefaults() Options {
	if o.Own == nil {
		o.Own = prometheus.Gatherers{}
	}
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 40
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = time.Minute
	}
	if o.KeepUnused == 0 {
		o.KeepUnused = 5 * time.Minute
	}
	return o
}

// Parts is what a scrape wants to see.
type Parts struct {
	Kinds []providers.Kind // the data
	Own   bool             // the exporter's own metrics
}

func (p Parts) has(kind providers.Kind) bool { return slices.Contains(p.Kinds, kind) }

// Exposition answers scrapes. Create one with [New]; it is safe for concurrent use.
type Exposition struct {
	opts     Options
	handler  http.Handler // with the library's metrics about it
	probe    http.Handler // see negotiate
	inFlight chan struct{}

	publishing sync.Mutex // held while a new set is made
	set        atomic.Pointer[set]
	sweeping   atomic.Bool
	release    release

	rendered func(family string, f format) // for tests: a segment was gathered
}

// New returns an Exposition. It panics if opts.Registerer holds other metrics of
// the names of the library's.
func New(opts Options) *Exposition {
	opts = opts.withDefaults()
	e := &Exposition{
		opts:     opts,
		probe:    promhttp.HandlerFor(prometheus.Gatherers{}, libraryOptions(nil, opts.Registerer)),
		inFlight: make(chan struct{}, opts.MaxInFlight),
		rendered: func(string, format) {},
	}
	e.set.Store(&set{})
	e.handler = http.HandlerFunc(e.serve)
	if opts.Registerer != nil {
		e.handler = promhttp.InstrumentMetricHandler(opts.Registerer, e.handler)
	}
	return e
}

// partsKey is the key of a request's Parts: the library's handler metrics wrap a
// handler, which has no other way to be told.
type partsKey struct{}

// Serve answers one scrape of parts with what is known now.
func (e *Exposition) Serve(w http.ResponseWriter, r *http.Request, parts Parts) {
	e.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), partsKey{}, parts)))
}

func (e *Exposition) serve(w http.ResponseWriter, r *http.Request) {
	parts, _ := r.Context().Value(partsKey{}).(Parts)
	select {
	case e.inFlight <- struct{}{}:
		defer func() { <-e.inFlight }()
	default:
		http.Error(w, "Too many scrapes at a time, try again later.", http.StatusServiceUnavailable)
		return
	}
	c, ok := e.negotiate(r)
	if !ok {
		defer e.limitWriting(w)()
		e.serveLibrary(w, r, parts)
		return
	}
	e.sweepLater()
	a, ok := e.answer(c, parts)
	if !ok {
		e.serveLibrary(w, r, parts)
		return
	}
	defer e.limitWriting(w)()
	if err := a.write(w, r); err != nil {
		_ = level.Debug(e.opts.Logger).Log("msg", "cannot write the metrics", "err", err)
	}
}

// limitWriting gives the client until the write timeout to read the answer, so
// that a slow one does not hold the bytes for ever. The returned function ends
// that: the connection may serve other requests.
func (e *Exposition) limitWriting(w http.ResponseWriter) func() {
	control := http.NewResponseController(w)
	if control.SetWriteDeadline(time.Now().Add(e.opts.WriteTimeout)) != nil {
		return func() {} // not a connection
	}
	return func() {
		_ = control.Flush() // still under the deadline
		_ = control.SetWriteDeadline(time.Time{})
	}
}
