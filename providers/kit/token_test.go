package kit_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// tokenAPI is an API with a login, and the providers.HTTP of its one account. It
// accepts tokens and refresh tokens that it has issued and not ended. The fields
// above mu are set by the test.
type tokenAPI struct {
	t        *testing.T
	password *secret.Value
	source   *kit.TokenSource

	wait    time.Duration // for the quota
	latency time.Duration
	single  bool   // one request of the account at a time, in order of arrival
	life    int    // stated; 0: not stated
	real    int    // 0: as stated
	access  string // "": generated
	noRenew bool   // issues no refresh tokens
	refuse  providers.Reason
	// fail, if not nil, returns the outcome of a request before the API looks at
	// it; "" for none.
	fail func(request string) providers.Reason

	queue chan struct{}

	mu        sync.Mutex
	issued    int
	accepts   map[string]time.Time // until when each token is accepted
	refreshes map[string]bool
	expects   string // password; "": any
	log       []string
	masked    []string
	blocked   bool

	// For the property test.
	ends    map[string]time.Time // stated ends of tokens
	worked  map[string]time.Time // when each token worked first
	refused map[string]time.Time // when each token was refused
	logins  int                  // that are running
	faults  []string
}

// fetchCount counts what one call of TokenSource.Do sends.
type fetchCount struct{ reads, expired, logins int }

type fetchKey struct{}

// badKey marks the context of a request that is refused with every token.
type badKey struct{}

func newTokenAPI(t *testing.T, change func(*kit.TokenOptions)) *tokenAPI {
	a := &tokenAPI{
		t: t, password: secret.Inline("correct-horse"), queue: make(chan struct{}, 1),
		accepts: map[string]time.Time{}, refreshes: map[string]bool{},
		ends: map[string]time.Time{}, worked: map[string]time.Time{}, refused: map[string]time.Time{},
		refuse: providers.ReasonAuth,
	}
	options := kit.TokenOptions{
		HTTP: a, Secrets: []*secret.Value{a.password}, Login: a.login, DefaultLife: 10 * time.Minute,
		Header: func(token string) http.Header { return http.Header{"X-Token": {token}} },
	}
	if change != nil {
		change(&options)
	}
	a.password = options.Secrets[0]
	a.source = kit.NewTokenSource(options)
	return a
}

func (a *tokenAPI) Mask(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.masked = append(a.masked, text)
}

// Do is the request chain: it waits for the quota, authorizes, sends and
// classifies.
func (a *tokenAPI) Do(ctx context.Context, call providers.Call) error {
	count, _ := ctx.Value(fetchKey{}).(*fetchCount)
	if count == nil {
		count = new(fetchCount)
	}
	a.mu.Lock()
	wait, latency := a.wait, a.latency
	a.mu.Unlock()
	if a.single {
		select {
		case a.queue <- struct{}{}:
			defer func() { <-a.queue }()
		case <-ctx.Done():
			return &providers.Error{Reason: providers.ReasonTimeout, Message: "no turn", Err: providers.ErrNotAsked}
		}
	}
	if simulate.Sleep(ctx, wait) != nil {
		return &providers.Error{Reason: providers.ReasonTimeout, Message: "no turn", Err: providers.ErrNotAsked}
	}
	if a.isBlocked() {
		return &providers.Error{Reason: providers.ReasonAuth, Message: "blocked", Err: providers.ErrNotAsked}
	}
	var header http.Header
	if call.Authorize != nil {
		var err error
		if header, err = call.Authorize(); err != nil {
			count.expired++
			return err
		}
		count.reads++
	} else {
		count.logins++
	}
	request := "read " + header.Get("X-Token")
	if call.Path != "" {
		request = call.Path
	}
	a.begin(request)
	var err error
	if err = simulate.Sleep(ctx, latency); err != nil {
		err = &providers.Error{Reason: providers.ReasonTimeout, Message: "canceled", Err: err}
	} else if err = a.answer(request, call); err == nil && call.Path == "" && ctx.Value(badKey{}) != nil {
		err = providers.Errorf(providers.ReasonAuth, "bad")
	}
	a.end(request)
	if err != nil && !errors.Is(err, providers.ErrNotAsked) && providers.AsError(err).Reason == providers.ReasonAuth && (call.Renewable == nil || !call.Renewable()) {
		a.block(true)
	}
	return err
}

func (a *tokenAPI) isBlocked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.blocked
}

func (a *tokenAPI) block(blocked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocked = blocked
}

func (a *tokenAPI) begin(request string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, request)
	verb, token, _ := strings.Cut(request, " ")
	if verb != "read" {
		if a.logins++; a.logins > 1 {
			a.faults = append(a.faults, "two logins at a time")
		}
		return
	}
	// What has happened at an earlier instant of the bubble is known.
	now := time.Now()
	before := func(times map[string]time.Time) bool {
		at, ok := times[token]
		return ok && at.Before(now)
	}
	end := a.ends[token]
	switch {
	case before(a.refused):
		a.faults = append(a.faults, token+" was sent after its refusal")
	case before(a.worked) && !end.IsZero() && !now.Before(end):
		a.faults = append(a.faults, token+" was sent after its end")
	case a.access == "" && !strings.HasPrefix(token, fmt.Sprintf("g%d-", a.password.Generation())):
		a.faults = append(a.faults, token+" was sent after the password changed")
	}
}

func (a *tokenAPI) end(request string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !strings.HasPrefix(request, "read") {
		a.logins--
	}
}

// answer decides about a request that has arrived.
func (a *tokenAPI) answer(request string, call providers.Call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	verb, argument, _ := strings.Cut(request, " ")
	reason := providers.Reason("")
	if a.fail != nil {
		reason = a.fail(request)
	}
	if reason == "" {
		switch verb {
		case "read":
			if !time.Now().Before(a.accepts[argument]) {
				reason = a.refuse
			}
		case "refresh":
			if !a.refreshes[argument] {
				reason = providers.ReasonAuth
			}
			delete(a.refreshes, argument)
		case "login":
			if a.expects != "" && argument != a.expects {
				reason = providers.ReasonAuth
			}
		}
	}
	if verb == "read" && reason == providers.ReasonAuth {
		a.refused[argument] = time.Now()
	}
	if _, ok := a.worked[argument]; verb == "read" && reason == "" && !ok {
		a.worked[argument] = time.Now()
	}
	if reason, ok := strings.CutPrefix(string(reason), "repeat "); ok {
		return providers.Errorf(providers.Reason(reason), "%s: %w", verb, providers.ErrNotAsked)
	}
	if reason != "" {
		return providers.Errorf(reason, "%s failed", verb)
	}
	if call.Parse != nil {
		return call.Parse(providers.Answer{Status: 200})
	}
	return nil
}

// login is the Login of the account.
func (a *tokenAPI) login(ctx context.Context, refresh string) (token kit.Token, err error) {
	call := providers.Call{Login: true, Path: "refresh " + refresh, Renewable: func() bool { return true }}
	if refresh == "" {
		password, err := a.password.Get()
		if err != nil {
			return token, providers.Errorf(providers.ReasonAuth, "password: %w", err)
		}
		call.Path, call.Renewable = "login "+password, nil
	}
	call.Parse = func(providers.Answer) error {
		a.issued++
		token.ExpiresIn = float64(a.life)
		if token.Access = a.access; token.Access == "" {
			token.Access = fmt.Sprintf("g%d-t%d", a.password.Generation(), a.issued)
		}
		life := a.real
		if life == 0 {
			life = a.life
		}
		if life == 0 {
			life = 1 << 30
		}
		a.accepts[token.Access] = time.Now().Add(time.Duration(life) * time.Second)
		if a.life > 0 {
			a.ends[token.Access] = time.Now().Add(time.Duration(a.life) * time.Second)
		}
		if !a.noRenew {
			token.Refresh = fmt.Sprint("r", a.issued)
			a.refreshes[token.Refresh] = true
		}
		return nil
	}
	err = a.Do(ctx, call)
	return token, err
}

func (a *tokenAPI) endTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.accepts)
}

func (a *tokenAPI) endRefreshTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.refreshes)
}

func (a *tokenAPI) failing(fail func(request string) providers.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = fail
}

// fetch is one request of a source.
func (a *tokenAPI) fetch(ctx context.Context) error { return a.source.Do(ctx, providers.Call{}) }

// works checks that a request works, and what was sent for it.
func (a *tokenAPI) works(sent ...string) {
	a.t.Helper()
	require.NoError(a.t, a.fetch(a.t.Context()))
	a.sent(sent...)
}

// fails checks the reason of a failed request, and what was sent for it.
func (a *tokenAPI) fails(reason providers.Reason, sent ...string) {
	a.t.Helper()
	err := a.fetch(a.t.Context())
	require.Error(a.t, err)
	require.Equal(a.t, reason, providers.AsError(err).Reason, err)
	require.NotContains(a.t, err.Error(), "correct-horse")
	require.NotRegexp(a.t, `g\d-t\d`, err.Error())
	a.sent(sent...)
}

// sent checks what was sent since the last check.
func (a *tokenAPI) sent(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Equal(a.t, append([]string(nil), want...), a.log)
	a.log = nil
}

// count returns how many requests of each kind were sent since the last check.
func (a *tokenAPI) count() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := map[string]int{}
	for _, request := range a.log {
		verb, _, _ := strings.Cut(request, " ")
		n[verb]++
	}
	a.log = nil
	return n
}

// all runs n requests at a time and returns their errors.
func (a *tokenAPI) all(n int) []error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = a.fetch(a.t.Context()) })
	}
	group.Wait()
	return errs
}

// tokenTest runs a test in a bubble.
func tokenTest(t *testing.T, name string, run func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
}

const login = "login correct-horse"

func TestTokenIsRenewedBeforeItsEnd(t *testing.T) {
	jwt := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".x"
	}
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix() // of a bubble
	for name, tt := range map[string]struct {
		life   int
		access string
		want   time.Duration
	}{
		"a second":                    {1, "", 800 * time.Millisecond},
		"a minute":                    {60, "", 48 * time.Second},
		"half an hour":                {1800, "", 28 * time.Minute},
		"an hour":                     {3600, "", 58 * time.Minute},
		"a year is a day":             {365 * 86400, "", 24*time.Hour - 2*time.Minute},
		"not stated":                  {0, "", 10 * time.Minute},
		"nonsense":                    {-1, "", 10 * time.Minute},
		"JWT with end":                {0, jwt(fmt.Sprintf(`{"exp":%d}`, now+3600)), 58 * time.Minute},
		"JWT with issue and end":      {0, jwt(`{"iat":1000,"exp":4600}`), 58 * time.Minute},
		"JWT of a day and more":       {0, jwt(`{"iat":1000,"exp":1e300}`), 24*time.Hour - 2*time.Minute},
		"JWT whose life is stated":    {60, jwt(`{"iat":1000,"exp":4600}`), 48 * time.Second},
		"JWT with padding":            {0, jwt(`{"iat":1000,"exp":4600 }`) + "", 58 * time.Minute},
		"JWT that has ended":          {0, jwt(`{"exp":4600}`), 10 * time.Minute},
		"JWT without end":             {0, jwt(`{"iat":4600}`), 10 * time.Minute},
		"JWT with an end in words":    {0, jwt(`{"exp":"soon"}`), 10 * time.Minute},
		"JWT that is not JSON":        {0, jwt(`x`), 10 * time.Minute},
		"three parts that are no JWT": {0, "a.%.c", 10 * time.Minute},
	} {
		tokenTest(t, name, func(t *testing.T) {
			a := newTokenAPI(t, nil)
			a.life, a.real, a.access, a.noRenew = tt.life, 1<<30, tt.access, true
			require.NoError(t, a.fetch(t.Context()))
			time.Sleep(tt.want - 1)
			require.NoError(t, a.fetch(t.Context()))
			require.Equal(t, map[string]int{"login": 1, "read": 2}, a.count())
			time.Sleep(time.Nanosecond)
			require.NoError(t, a.fetch(t.Context()))
			require.Equal(t, map[string]int{"login": 1, "read": 1}, a.count())
		})
	}
}

func TestTokenIsRefreshedThenLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.works(login, "read g1-t1")
		a.works("read g1-t1")
		a.endTokens()
		a.works("read g1-t1", "refresh r1", "read g1-t2")
		a.works("read g1-t2")
		time.Sleep(10 * time.Minute)
		a.works("refresh r2", "read g1-t3")
		a.endTokens()
		a.endRefreshTokens()
		a.works("read g1-t3", "refresh r3", login, "read g1-t4")

		a.failing(func(request string) providers.Reason {
			if strings.HasPrefix(request, "read") {
				return providers.ReasonAuth
			}
			return ""
		})
		a.fails(providers.ReasonAuth, "read g1-t4", "refresh r4", "read g1-t5", login, "read g1-t6")
		require.True(t, a.isBlocked(), "the refusal after a login is final")
		a.fails(providers.ReasonAuth)
		for want := range 3 {
			a.block(false)
			a.fails(providers.ReasonAuth, login, fmt.Sprint("read g1-t", 7+want))
			require.True(t, a.isBlocked())
		}
	})
}

func TestFailedRefresh(t *testing.T) {
	for _, reason := range providers.Reasons() {
		tokenTest(t, string(reason), func(t *testing.T) {
			a := newTokenAPI(t, nil)
			a.works(login, "read g1-t1")
			time.Sleep(10 * time.Minute)
			a.failing(func(request string) providers.Reason {
				if strings.HasPrefix(request, "refresh") {
					return reason
				}
				return ""
			})
			switch reason {
			case providers.ReasonAuth, providers.ReasonForbidden, providers.ReasonBadRequest, providers.ReasonNotFound, providers.ReasonBadResponse:
				a.works("refresh r1", login, "read g1-t2")
			default:
				a.fails(reason, "refresh r1")
				a.works(login, "read g1-t2")
			}
			require.False(t, a.isBlocked())
		})
	}
	tokenTest(t, "a refresh token may stay", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.works(login, "read g1-t1")
		a.noRenew = true
		for n := range 3 {
			time.Sleep(10 * time.Minute)
			a.refreshes["r1"] = true
			a.works("refresh r1", fmt.Sprint("read g1-t", n+2))
		}
	})
}

func TestRefusedLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.expects = "another"
		a.fails(providers.ReasonAuth, login)
		require.True(t, a.isBlocked())
		a.block(false)
		a.fails(providers.ReasonAuth, login)
	})
	for _, reason := range providers.Reasons() {
		tokenTest(t, string(reason)+" pauses the others if it does not block the account", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			require.NoError(t, os.WriteFile(file, []byte("correct-horse"), 0o600))
			a := newTokenAPI(t, func(o *kit.TokenOptions) { o.Secrets = []*secret.Value{secret.File(file)} })
			a.failing(func(string) providers.Reason { return reason })
			a.fails(reason, login)
			a.block(false)
			switch reason {
			case providers.ReasonForbidden, providers.ReasonBadRequest, providers.ReasonNotFound:
			default:
				a.fails(reason, login)
				return
			}
			for _, err := range a.all(10) {
				require.Equal(t, reason, providers.AsError(err).Reason)
			}
			time.Sleep(time.Minute - 1)
			a.fails(reason)
			time.Sleep(time.Nanosecond)
			a.fails(reason, login)
			require.NoError(t, os.WriteFile(file, []byte("correct-horse-2"), 0o600))
			time.Sleep(time.Second * 30)
			a.fails(reason, login+"-2")
			a.failing(nil)
			time.Sleep(time.Minute)
			a.works(login+"-2", "read g2-t1")
		})
	}
}

// TestChangedSecretFile: a request reads the files of the secrets, and a new content
// ends the token before anything is sent with it.
func TestChangedSecretFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
		write("p1")
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.Secrets = []*secret.Value{secret.File(file)} })
		a.works("login p1", "read g1-t1")
		write("p1\n")
		a.works("read g1-t1")
		write("p2")
		a.works("login p2", "read g2-t2")
		write("")
		a.works("read g2-t2")
		require.NoError(t, os.Remove(file))
		a.works("read g2-t2")
		time.Sleep(10 * time.Minute)
		a.works("refresh r2", "read g2-t3")
		write("p2")
		a.works("read g2-t3")
		a.expects = "p3"
		write("p-wrong")
		a.fails(providers.ReasonAuth, "login p-wrong")
		a.block(false) // as a change of a secret does
		write("p3")
		a.works("login p3", "read g4-t4")
	})
	tokenTest(t, "during the wait for the quota", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		require.NoError(t, os.WriteFile(file, []byte("p1"), 0o600))
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.Secrets = []*secret.Value{secret.File(file)} })
		a.works("login p1", "read g1-t1")
		a.wait = time.Minute
		time.AfterFunc(time.Second, func() {
			assert.NoError(t, os.WriteFile(file, []byte("p2"), 0o600))
			assert.NoError(t, a.password.Refresh()) // as another request of the account does
		})
		a.works("login p2", "read g2-t2")
	})
}

func TestOneRenewalForAllCallers(t *testing.T) {
	const callers = 50
	synctest.Test(t, func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.latency = time.Second
		require.Equal(t, make([]error, callers), a.all(callers))
		require.Equal(t, map[string]int{"login": 1, "read": callers}, a.count())
		time.Sleep(10 * time.Minute)
		require.Equal(t, make([]error, callers), a.all(callers))
		require.Equal(t, map[string]int{"refresh": 1, "read": callers}, a.count())
		a.endTokens()
		require.Equal(t, make([]error, callers), a.all(callers))
		require.Equal(t, map[string]int{"refresh": 1, "read": 2 * callers}, a.count())
		a.failing(func(string) providers.Reason { return providers.ReasonAuth })
		for _, err := range a.all(callers) {
			require.Equal(t, providers.ReasonAuth, providers.AsError(err).Reason)
		}
		require.Equal(t, map[string]int{"refresh": 1, "login": 1, "read": callers}, a.count())
	})
	tokenTest(t, "that fails", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.latency = time.Second
		a.failing(func(string) providers.Reason { return providers.ReasonUnavailable })
		for _, err := range a.all(callers) {
			require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
		}
		require.Equal(t, map[string]int{"login": 1}, a.count())
	})
}

func TestManyTokensForOneRequest(t *testing.T) {
	tokenTest(t, "are bounded although they work for other requests", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.latency = time.Second
		stop := make(chan struct{})
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() {
				for time.Sleep(time.Duration(i) * 200 * time.Millisecond); ; {
					select {
					case <-stop:
						return
					default:
						assert.NoError(t, a.fetch(t.Context()))
					}
				}
			})
		}
		time.Sleep(10*time.Second + 1)
		var n fetchCount
		err := a.fetch(context.WithValue(context.WithValue(t.Context(), fetchKey{}, &n), badKey{}, true))
		require.Equal(t, providers.ReasonAuth, providers.AsError(err).Reason)
		require.Equal(t, 3, n.reads)
		a.block(false)
		close(stop)
		group.Wait()
	})
	tokenTest(t, "are tried if another request has got one meanwhile", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		require.NoError(t, os.WriteFile(file, []byte("p1"), 0o600))
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.Secrets = []*secret.Value{secret.File(file)} })
		a.works("login p1", "read g1-t1")
		require.NoError(t, os.WriteFile(file, []byte("p-2"), 0o600))
		a.latency = 10 * time.Second
		a.fail = func(request string) providers.Reason {
			if request == "read g2-t2" {
				return providers.ReasonAuth
			}
			return ""
		}
		var group sync.WaitGroup
		group.Go(func() { assert.NoError(t, a.fetch(t.Context())) })
		time.Sleep(11 * time.Second) // g2-t2 is fresh from a login, and under way
		require.NoError(t, os.WriteFile(file, []byte("p--3"), 0o600))
		a.mu.Lock()
		a.latency = time.Second
		a.mu.Unlock()
		require.NoError(t, a.fetch(t.Context()))
		group.Wait()
		a.sent("login p-2", "read g2-t2", "login p--3", "read g3-t3", "read g3-t3")
		require.False(t, a.isBlocked())
	})
}

// TestRepeatThatIsNotSent: a request whose connection broke is repeated through the
// quota, which may not allow it. That says nothing about the token.
func TestRepeatThatIsNotSent(t *testing.T) {
	for _, reason := range []providers.Reason{providers.ReasonAuth, providers.ReasonRateLimited, providers.ReasonTimeout} {
		tokenTest(t, string(reason), func(t *testing.T) {
			a := newTokenAPI(t, nil)
			a.works(login, "read g1-t1")
			a.failing(func(string) providers.Reason { return "repeat " + reason })
			err := a.fetch(t.Context())
			require.ErrorIs(t, err, providers.ErrNotAsked)
			a.failing(nil)
			a.sent("read g1-t1")
			a.works("read g1-t1")
		})
	}
}

func TestCallersThatLeave(t *testing.T) {
	tokenTest(t, "while they log in for the others", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.latency = 10 * time.Second
		first, leave := context.WithCancel(t.Context())
		second, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		errs := make([]error, 3)
		var group sync.WaitGroup
		for i, ctx := range []context.Context{first, second, t.Context()} {
			group.Go(func() { errs[i] = a.fetch(ctx) })
			synctest.Wait()
		}
		time.Sleep(time.Second)
		leave()
		group.Wait()
		require.ErrorIs(t, errs[0], context.Canceled)
		require.ErrorIs(t, errs[1], context.DeadlineExceeded)
		require.NoError(t, errs[2])
		a.sent(login, login, login, "read g1-t1")
	})
	tokenTest(t, "because the quota allows them no login in time", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.wait = 10 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var group sync.WaitGroup
		group.Go(func() { assert.ErrorIs(t, a.fetch(ctx), providers.ErrNotAsked) })
		synctest.Wait()
		a.works(login, "read g1-t1")
		group.Wait()
	})
	tokenTest(t, "because the account is blocked for them only", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.wait = 10 * time.Second
		var group sync.WaitGroup
		group.Go(func() {
			assert.ErrorIs(t, a.fetch(t.Context()), providers.ErrNotAsked)
			a.block(false)
		})
		time.Sleep(time.Second)
		a.block(true)
		a.works(login, "read g1-t1")
		group.Wait()
	})
	tokenTest(t, "while another one logs in", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.latency = 10 * time.Second
		var group sync.WaitGroup
		group.Go(func() { assert.NoError(t, a.fetch(t.Context())) })
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(why) })
		err := a.fetch(ctx)
		require.ErrorIs(t, err, why)
		require.ErrorIs(t, err, providers.ErrNotAsked)
		group.Wait()
		a.sent(login, "read g1-t1")
	})
	tokenTest(t, "in a panic", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.failing(func(string) providers.Reason { a.mu.Unlock(); defer a.mu.Lock(); panic("at the disco") })
		require.Panics(t, func() { _ = a.fetch(t.Context()) })
		a.failing(nil)
		a.works(login, login, "read g1-t1")
	})
}

// TestTokenExpiresAtTheQuota: requests of a fleet wait for the quota longer than a
// token lives. None is spent on a token that is known to have ended.
func TestTokenExpiresAtTheQuota(t *testing.T) {
	const callers = 40
	for _, stated := range []bool{true, false} {
		tokenTest(t, fmt.Sprintf("end stated %t", stated), func(t *testing.T) {
			a := newTokenAPI(t, nil)
			a.single, a.wait, a.real = true, 20*time.Second, 120
			if stated {
				a.life = 120
			}
			require.Equal(t, make([]error, callers), a.all(callers))
			n := a.count()
			renewals, refused := n["login"]+n["refresh"], n["read"]-callers
			require.Greater(t, renewals, 5)
			if stated {
				require.Zero(t, refused)
			} else {
				require.Equal(t, renewals-1, refused, "one refusal shows the end of a token")
			}
			require.False(t, a.isBlocked())
		})
	}
	tokenTest(t, "before the first request", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.single, a.wait, a.life, a.noRenew = true, 20*time.Second, 10, true
		a.fails(providers.ReasonAuth, login, "read g1-t1")
		require.True(t, a.isBlocked(), "no loop of logins")
	})
	tokenTest(t, "by its statement only", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.wait, a.life, a.real = 20*time.Second, 10, 1000
		a.works(login, "read g1-t1")
	})
	tokenTest(t, "due for renewal it still serves", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.life = 100
		a.works(login, "read g1-t1")
		a.wait = 85 * time.Second
		a.works("read g1-t1")
	})
}

func TestChangedSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("correct-horse")
	synctest.Test(t, func(t *testing.T) {
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.Secrets = []*secret.Value{secret.File(file)} })
		a.works(login, "read g1-t1")
		write("correct-horse-2")
		a.works(login+"-2", "read g2-t2")
		require.NoError(t, os.Remove(file))
		a.works("read g2-t2")
		a.endTokens()
		a.works("read g2-t2", "refresh r2", "read g2-t3")

		// While another request logs in with the earlier one, in vain.
		write("p4")
		a.latency = time.Second
		a.fail = func(request string) providers.Reason {
			if request == "login p4" {
				return providers.ReasonUnavailable
			}
			return ""
		}
		var group sync.WaitGroup
		group.Go(func() { assert.Error(t, a.fetch(t.Context())) })
		time.Sleep(time.Second / 2)
		write("correct-horse-5")
		require.NoError(t, a.fetch(t.Context()))
		group.Wait()
		a.sent("login p4", login+"-5", "read g4-t4")
		a.latency = 0

		// While a request waits for the quota.
		a.wait = time.Minute
		time.AfterFunc(time.Second, func() {
			write("correct-horse-3")
			_, _ = a.password.Get()
		})
		a.works(login+"-3", "read g5-t5")
	})
	synctest.Test(t, func(t *testing.T) {
		a := newTokenAPI(t, func(o *kit.TokenOptions) {
			o.Secrets = []*secret.Value{secret.File(filepath.Join(t.TempDir(), "missing"))}
		})
		a.fails(providers.ReasonAuth)
	})
}

func TestForbiddenToken(t *testing.T) {
	tokenTest(t, "is renewed where the provider may mean the token", func(t *testing.T) {
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.RenewForbidden = true })
		a.refuse, a.noRenew = providers.ReasonForbidden, true
		a.works(login, "read g1-t1")
		a.endTokens()
		a.works("read g1-t1", login, "read g1-t2")
		a.endTokens()
		a.works("read g1-t2", login, "read g1-t3")
	})
	tokenTest(t, "is not renewed elsewhere", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.refuse = providers.ReasonForbidden
		a.works(login, "read g1-t1")
		a.endTokens()
		a.fails(providers.ReasonForbidden, "read g1-t1")
	})
	tokenTest(t, "is not renewed before it has worked", func(t *testing.T) {
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.RenewForbidden = true })
		a.fail = func(request string) providers.Reason {
			if strings.HasPrefix(request, "read") {
				return providers.ReasonForbidden
			}
			return ""
		}
		a.fails(providers.ReasonForbidden, login, "read g1-t1")
		a.fails(providers.ReasonForbidden, "read g1-t1")
	})
	// A suspended SIM card is forbidden with every token.
	tokenTest(t, "is not renewed for a while after a new one was forbidden too", func(t *testing.T) {
		a := newTokenAPI(t, func(o *kit.TokenOptions) { o.RenewForbidden = true })
		a.noRenew, a.life = true, 3600
		bad := false
		a.fail = func(request string) providers.Reason {
			if bad && strings.HasPrefix(request, "read") {
				return providers.ReasonForbidden
			}
			return ""
		}
		for range 60 {
			bad = false
			require.NoError(t, a.fetch(t.Context()))
			bad = true
			require.Equal(t, providers.ReasonForbidden, providers.AsError(a.fetch(t.Context())).Reason)
			time.Sleep(time.Minute)
		}
		require.LessOrEqual(t, a.count()["login"], 8)
	})
}

func TestIssuedToken(t *testing.T) {
	for _, access := range []string{"", "a\nb", "a b", "ü", "a\x7f", " \t"} {
		synctest.Test(t, func(t *testing.T) {
			a := newTokenAPI(t, func(o *kit.TokenOptions) {
				o.Login = func(context.Context, string) (kit.Token, error) { return kit.Token{Access: access}, nil }
			})
			a.fails(providers.ReasonBadResponse)
			require.EqualError(t, a.fetch(t.Context()), "bad_response: requesting a token: the answer has no token, or one that cannot be sent in a header")
		})
	}
	tokenTest(t, "is trimmed and masked", func(t *testing.T) {
		a := newTokenAPI(t, nil)
		a.access = " the-token\n"
		a.accepts["the-token"] = time.Now().Add(time.Hour)
		a.works(login, "read the-token")
		require.Equal(t, []string{"the-token", "r1"}, a.masked)
	})
}

// TestTokensNever runs random requests against an API that ends tokens, fails and
// blocks, with callers that leave and a password that changes.
func TestTokensNever(t *testing.T) {
	worked := 0
	for seed := range uint64(40) {
		tokenTest(t, fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			file := filepath.Join(t.TempDir(), "password")
			require.NoError(t, os.WriteFile(file, []byte("p1"), 0o600))
			a := newTokenAPI(t, func(o *kit.TokenOptions) {
				o.Secrets = []*secret.Value{secret.File(file)}
				o.RenewForbidden = seed%2 == 0
			})
			a.single = seed%3 == 0
			a.wait = time.Duration(random.IntN(30)) * time.Second
			a.latency = time.Duration(random.IntN(3)) * time.Second
			a.life, a.real = random.IntN(2)*(20+random.IntN(300)), 20+random.IntN(300)
			a.noRenew = seed%5 == 0
			a.fail = func(request string) providers.Reason { // under a.mu
				if random.IntN(8) > 0 {
					return ""
				}
				return providers.Reasons()[random.IntN(len(providers.Reasons()))]
			}
			var group sync.WaitGroup
			for range 100 {
				a.mu.Lock()
				pause, deadline, act, password := random.IntN(20), 1+random.IntN(600), random.IntN(12), random.IntN(100)
				a.mu.Unlock()
				time.Sleep(time.Duration(pause)*time.Second + 7)
				switch act {
				case 0:
					a.endTokens()
				case 1:
					a.endRefreshTokens()
				case 2:
					require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "p%d", password), 0o600))
					_, _ = a.password.Get()
				}
				if pause > 5 {
					a.block(false)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(deadline)*time.Second+3)
				group.Go(func() {
					defer cancel()
					var n fetchCount
					if err := a.fetch(context.WithValue(ctx, fetchKey{}, &n)); err != nil {
						assert.NotRegexp(t, `g\d+-t\d|\bp\d`, err.Error())
					}
					assert.LessOrEqual(t, n.reads, 3)
					assert.LessOrEqual(t, n.logins, 2*(1+n.reads+n.expired))
				})
			}
			group.Wait()
			require.Empty(t, a.faults)
			worked += len(a.worked)

			// Whatever has happened, it recovers.
			a.failing(nil)
			a.block(false)
			a.wait, a.latency, a.real, a.life = 0, 0, 1000, 1000
			time.Sleep(time.Hour)
			require.NoError(t, a.fetch(t.Context()))
		})
	}
	require.Greater(t, worked, 200, "too little has happened")
}

// staticAPI is an API that accepts one token.
type staticAPI struct {
	accepts string
	refuse  providers.Reason
	sent    []string
	onSend  func()
}

func (*staticAPI) Mask(string) {}

func (a *staticAPI) Do(_ context.Context, call providers.Call) error {
	header, err := call.Authorize()
	if err != nil {
		return err
	}
	token := header.Get("X-Token")
	a.sent = append(a.sent, token)
	if a.onSend != nil {
		a.onSend()
	}
	if token != a.accepts {
		return providers.Errorf(a.refuse, "refused")
	}
	return nil
}

func TestStaticToken(t *testing.T) {
	for _, reason := range []providers.Reason{providers.ReasonAuth, providers.ReasonForbidden} {
		t.Run(string(reason), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
			api := &staticAPI{accepts: "first", refuse: reason}
			s := kit.StaticToken{
				HTTP: api, Secret: secret.File(file),
				Header: func(token string) http.Header { return http.Header{"X-Token": {token}} },
			}
			do := func(want string, sent ...string) {
				t.Helper()
				api.sent = nil
				err := s.Do(t.Context(), providers.Call{})
				if want == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, want)
				}
				require.Equal(t, append([]string(nil), sent...), api.sent)
			}
			require.ErrorContains(t, s.Do(t.Context(), providers.Call{}), "auth: token: cannot read the secret file")
			write("first")
			do("", "first")
			write("second!")
			do(string(reason)+": refused", "second!")
			api.accepts = "second!"
			do("", "second!")
			api.onSend = func() { write("the third"); api.accepts, api.onSend = "the third", nil }
			do("", "second!", "the third")
			write("two\nlines")
			do("auth: token: holds a line break or another character that cannot be sent in a header")
		})
	}
}
