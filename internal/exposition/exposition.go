// Package exposition answers scrapes at the cost of writing cached bytes.
//
// A segment is what one group of snapshots contributes to one metric family. It is
// gathered by an ordinary registry and rendered by expfmt when a scrape first needs
// it, and cached, deflated or not, until the group changes or one of its values
// expires. A scrape joins the cached bytes with a small fresh part, the exporter's own
// metrics. Gzip needs no second pass: the cached deflate blocks and checksums are
// stitched into one gzip member.
//
// Families are in the order of promhttp, and each has the bytes that promhttp gives
// it, with two exceptions. The series of one family are sorted within a segment, and
// segments by account; so series change places where two providers have accounts of
// the same name, and between the shards of a fleet. And series are checked for
// duplicates within a segment: those of different segments differ in the labels
// provider, account or subscriber.
//
// Rendering never delays a scrape past its deadline: a segment that is not ready is
// served as it was before, and rendered for the next scrape.
//
// An error in a segment is logged and counted when it is rendered; the rest of the
// segment is served.
//
// Unusual requests are answered by promhttp, over the same collectors.
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
	dto "github.com/prometheus/client_model/go"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Options configure an [Exposition].
type Options struct {
	// Groups returns the snapshots, in the order of the configuration. A group
	// that has not changed must be the same pointer as before. Required.
	Groups func() []*snapshot.Group
	// Own gathers the exporter's own metrics for every scrape. Nil for none.
	Own prometheus.Gatherer
	// Registerer gets the library's metrics about the handler, promhttp_*; it
	// should be part of Own. Nil leaves them out.
	Registerer prometheus.Registerer
	// Logger logs errors. Nil logs nothing.
	Logger log.Logger
}

// Parts selects what a scrape shows.
type Parts struct {
	Kinds []providers.Kind // the data
	Own   bool             // the exporter's own metrics
	// Accounts limits the data, and the exporter's own metrics about accounts. Nil
	// means all.
	Accounts []snapshot.Name
}

// shows reports whether p selects an account.
func (p Parts) shows(provider, account string) bool {
	return p.Accounts == nil || slices.Contains(p.Accounts, snapshot.Name{Provider: provider, Account: account})
}

// own gathers the exporter's own metrics without those of accounts that p leaves out.
func (e *Exposition) own(p Parts) ([]*dto.MetricFamily, error) {
	families, err := e.opts.Own.Gather()
	if p.Accounts == nil {
		return families, err
	}
	for _, f := range families {
		f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			account, ok := labels["account"]
			return ok && !p.shows(labels["provider"], account)
		})
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 }), err
}

func (p Parts) has(kind providers.Kind) bool { return slices.Contains(p.Kinds, kind) }

const (
	// maxInFlight is how many answers are written at a time. Others wait for their
	// turn until their deadline, and then get 503.
	maxInFlight = 40
	// writeTimeout is how long a client may take to read an answer.
	writeTimeout = time.Minute
	// minServe is how long a scrape may be served after its deadline, and then how long
	// it may wait to be written. Otherwise one that waits for a slow provider until its
	// deadline would miss the values of the other accounts. --scrape.timeout-offset
	// leaves the time for it.
	minServe = 100 * time.Millisecond
)

// maxRenders bounds how many segments are rendered at a time. Rendering takes about
// ten times the memory of the result for a moment.
const maxRenders = 2

// Exposition answers scrapes. Create one with [New]; it is safe for concurrent use.
type Exposition struct {
	opts  Options
	probe http.Handler // see negotiate

	inFlight chan struct{} // holds a value for each answer that is written
	library  chan struct{} // likewise for answers by promhttp, which take memory
	renders  chan struct{} // likewise for segments that are rendered

	mu         sync.Mutex         // guards joinable
	joinable   map[string]*flight // those that have not begun, by their key
	assembling sync.Mutex         // held while an answer is assembled

	publishing sync.Mutex // held while a new set is built
	set        atomic.Pointer[set]
	sweeping   atomic.Bool

	// keepUnused is how long bytes stay cached that no scrape uses. They are dropped
	// before twice that time.
	keepUnused time.Duration
	rendered   func(family string, f format) // for tests: a segment was gathered
}

// New returns an Exposition. It panics if opts.Registerer holds other metrics with
// the names of the library's.
func New(opts Options) *Exposition {
	if opts.Own == nil {
		opts.Own = prometheus.Gatherers{}
	}
	if opts.Logger == nil {
		opts.Logger = log.NewNopLogger()
	}
	e := &Exposition{
		opts:     opts,
		probe:    promhttp.HandlerFor(prometheus.Gatherers{}, libraryOptions(nil, opts.Registerer)),
		inFlight: make(chan struct{}, maxInFlight),
		library:  make(chan struct{}, 1),
		renders:  make(chan struct{}, maxRenders),
		joinable: map[string]*flight{},

		keepUnused: 5 * time.Minute,
		rendered:   func(string, format) {},
	}
	e.set.Store(&set{})
	return e
}

// Serve answers one scrape with parts of the current snapshots. The deadline of the
// scrape is that of the request's context.
func (e *Exposition) Serve(w http.ResponseWriter, r *http.Request, parts Parts) {
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.serve(w, r, parts) })
	if e.opts.Registerer != nil {
		handler = promhttp.InstrumentMetricHandler(e.opts.Registerer, handler)
	}
	handler.ServeHTTP(w, r)
}

func (e *Exposition) serve(w http.ResponseWriter, r *http.Request, parts Parts) {
	r, cancel := withMinServe(r)
	defer cancel()
	c, ok := e.negotiate(r)
	if !ok {
		e.serveLibrary(w, r, parts)
		return
	}
	e.sweepLater()
	e.contributions(r.Context(), c, parts) // renders what is missing
	a, ok := e.join(c, parts)
	if !ok {
		e.serveLibrary(w, r, parts)
		return
	}
	r, cancel = withMinServe(r)
	defer cancel()
	done, ok := e.wait(w, r, e.inFlight)
	if !ok {
		return
	}
	defer done()
	defer limitWriting(w)()
	if err := a.write(w, r); err != nil {
		_ = level.Debug(e.opts.Logger).Log("msg", "cannot write the metrics", "err", err)
	}
}

// withMinServe moves the deadline of a request so that at least minServe is left.
func withMinServe(r *http.Request) (*http.Request, context.CancelFunc) {
	at, ok := r.Context().Deadline()
	if !ok || time.Until(at) >= minServe {
		return r, func() {}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), minServe)
	return r.WithContext(ctx), cancel
}

// wait waits for a place in turn until the deadline of the scrape. It answers the
// request itself if there is none.
func (e *Exposition) wait(w http.ResponseWriter, r *http.Request, turn chan struct{}) (done func(), ok bool) {
	select {
	case turn <- struct{}{}:
	default:
		select {
		case turn <- struct{}{}:
		case <-r.Context().Done():
			http.Error(w, "Too many scrapes at a time, try again later.", http.StatusServiceUnavailable)
			return nil, false
		}
	}
	return func() { <-turn }, true
}

// limitWriting gives the client until the write timeout to read the answer, so
// that a slow one does not hold its memory for ever. The returned function removes
// the limit, because the connection may serve other requests.
func limitWriting(w http.ResponseWriter) func() {
	control := http.NewResponseController(w)
	if control.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
		return func() {} // not a connection
	}
	return func() {
		_ = control.Flush() // still under the deadline
		_ = control.SetWriteDeadline(time.Time{})
	}
}
