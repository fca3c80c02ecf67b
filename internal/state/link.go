package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// callTimeout is the time for one call of the server. A scrape waits for it once;
	// until the server has recovered, every other call fails at once.
	callTimeout = 2 * time.Second
	// firstProbe is the time between two probes of a server that has failed; it
	// doubles to lastProbe.
	firstProbe = 50 * time.Millisecond
	lastProbe  = time.Second
)

func init() { redis.SetLogger(silent{}) } // its errors are returned, too

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// link is the connection to a server. After the first failure it is down: every call
// fails at once, until a probe succeeds on a new connection.
type link struct {
	address string // for messages
	logger  log.Logger
	connect func() *redis.Client
	// probe uses a client in every way in which the store does, so that a server
	// that answers only in part stays down.
	probe func(ctx context.Context, c *redis.Client) error
	// recovered is called when the link is up again.
	recovered func()

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	client  *redis.Client // nil while the link is down
	failure error         // why it is down
	logged  string        // what the last error was logged as; empty while the link is up
	reached bool          // the link has been up
}

// open connects. A failure is logged, and open goes on trying.
func (l *link) open() {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.try(); err != nil {
		_ = l.down(nil, err) // logged
	}
}

func (l *link) close() {
	l.cancel()
	l.mu.Lock()
	if l.client != nil {
		_ = l.client.Close()
	}
	l.client, l.failure = nil, errClosed
	l.mu.Unlock()
	l.work.Wait()
}

// try connects and probes.
func (l *link) try() error {
	ctx, cancel := context.WithTimeout(l.ctx, 2*callTimeout)
	defer cancel()
	c := l.connect()
	err := l.probe(ctx, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.ctx.Err() != nil {
		err = errClosed
	}
	if err != nil {
		_ = c.Close()
		return err
	}
	if l.logged != "" {
		_ = level.Info(l.logger).Log("msg", "state can be reached again", "address", l.address)
	}
	l.client, l.failure, l.logged, l.reached = c, nil, "", true
	return nil
}

// do calls f with a client. f returns errors of the link, and no others.
func (l *link) do(ctx context.Context, f func(ctx context.Context, c *redis.Client) error) error {
	l.mu.Lock()
	c, failure := l.client, l.failure
	l.mu.Unlock()
	if c == nil {
		return failure
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := f(call, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return l.down(c, err)
}

// down takes the link down after an error of client c, unless that is done already.
func (l *link) down(c *redis.Client, err error) error {
	err = explain(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != c || l.ctx.Err() != nil {
		return err
	}
	if c != nil {
		_ = c.Close() // its other connections are no better
	}
	l.client = nil
	l.fail(err)
	l.work.Go(l.recover)
	return err
}

// fail records and logs an error. The caller holds the lock.
func (l *link) fail(err error) {
	l.failure = err
	kind := "no answer"
	var answer redis.Error
	if errors.As(err, &answer) {
		kind, _, _ = strings.Cut(answer.Error(), " ")
	}
	// A server that is being restarted answers in turn, or not at all: only what it
	// answers is news.
	if l.logged == "" || l.logged != kind && answer != nil {
		_ = level.Error(l.logger).Log("msg", "state cannot be reached; nothing is sent until it can, and the last values are served", "address", l.address, "err", err)
		l.logged = kind
	}
}

// recover tries to connect until it succeeds.
func (l *link) recover() {
	for wait := firstProbe; ; wait = min(2*wait, lastProbe) {
		select {
		case <-time.After(wait):
		case <-l.ctx.Done():
			return
		}
		err := l.try()
		if err == nil {
			l.recovered()
			return
		}
		l.mu.Lock()
		if l.ctx.Err() == nil {
			l.fail(explain(err))
		}
		l.mu.Unlock()
	}
}

// ready returns nil once the link was up, else why it is not.
func (l *link) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reached {
		return nil
	}
	return l.failure
}

const permissions = "docs/high-availability.md lists the commands and keys that the user needs"

// advice is what to do about an error that the server answers, by a part of its text.
var advice = []struct{ part, text string }{
	{"WRONGPASS", "check the user in --state.url and --state.password-file"},
	{"NOAUTH", "the server wants a password: give --state.password-file"},
	{"NOPERM", permissions},
	{"The user executing the script can't", permissions},
	{"OOM", "the server has reached maxmemory: raise it; docs/high-availability.md has the sizes"},
	{"READONLY", "this is a replica: give the address of the master, or redis-sentinel://"},
}

// explain adds to an error what to do about it.
func explain(err error) error {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no answer within %s: %w", callTimeout, err)
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		for _, a := range advice {
			if strings.Contains(answer.Error(), a.part) {
				return fmt.Errorf("%w (%s)", err, a.text)
			}
		}
	}
	return err
}

// connector returns what makes a client of the server.
func (s *server) connector(opts Options) func() *redis.Client {
	credentials := func(context.Context) (string, string, error) {
		password, err := opts.Password.Get()
		if err == nil && password == "" && s.user != "" {
			err = errors.New("the user in --state.url needs --state.password-file")
		}
		return s.user, password, err
	}
	o := redis.UniversalOptions{
		Addrs: s.addresses, MasterName: s.master, DB: s.db, Dialer: opts.Dial, CredentialsProviderContext: credentials,
		MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true, Protocol: 2, DialerRetries: 1,
		DialTimeout: callTimeout, ReadTimeout: callTimeout, WriteTimeout: callTimeout, PoolTimeout: callTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if s.tls {
		host, _, _ := net.SplitHostPort(s.addresses[0]) // checked by ParseURL
		o.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return func() *redis.Client {
		if s.master != "" {
			return redis.NewFailoverClient(o.Failover())
		}
		return redis.NewClient(o.Simple())
	}
}
