package flolive_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

const oneData = `subscribers: {list: [{type: iccid, value: "8944501234567890123", name: truck-12, balance_ids: [data]}]}`

func TestLogin(t *testing.T) {
	bubble(t, "sends user and password", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Username: "api@example.com", Password: "correct-horse"}, oneData)
		w.mustFetch()
		require.Equal(t, 1, w.sim.Logins())
	})
	for _, field := range []string{"token", "accessToken", "access_token"} {
		for _, object := range []bool{false, true} {
			bubble(t, fmt.Sprintf("takes %s, object %t", field, object), func(t *testing.T) {
				w := newWorld(t, flolivesim.Options{TokenField: field, ContentObject: object}, oneData)
				w.mustFetch()
			})
		}
	}
	for name, body := range map[string]string{
		"no token":        `{"errorCode":"","content":[{}]}`,
		"an empty token":  `{"errorCode":"","content":[{"token":" "}]}`,
		"a number":        `{"errorCode":"","content":[{"token":7}]}`,
		"no content":      `{"errorCode":"","content":""}`,
		"a wrong content": `{"errorCode":"","content":7}`,
		"a line break":    `{"errorCode":"","content":[{"token":"secret-one\nsecret-two"}]}`,
		"no JSON":         `secret-one`,
	} {
		bubble(t, "with "+name+" is a bad answer", func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{}, oneData)
			w.sim.Fail(string(flolivesim.KindLogin), flolivesim.Fault{Body: body})
			e := w.fails()
			require.Equal(t, providers.ReasonBadResponse, e.Reason)
			require.NotContains(t, e.Message, "secret")
		})
	}
	bubble(t, "uses another header", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{AuthHeader: "X-Session"}, oneData, `auth: {header: x-session, prefix: ""}`)
		w.mustFetch()
	})
	bubble(t, "hides the token", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{OpaqueToken: true}, oneData)
		var sent string
		w.faults.Add(simulate.Rule{Fault: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				sent = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				next.ServeHTTP(rw, r)
			})
		}})
		w.mustFetch()
		require.NotEmpty(t, sent)
		require.Equal(t, "it is <secret>", w.mask.String("it is "+sent))
	})
}

func TestWrongCredentials(t *testing.T) {
	for name, tt := range map[string]struct {
		failure flolivesim.AuthFailure
		want    providers.Reason
	}{
		"HTTP 401": {flolivesim.AuthUnauthorized, providers.ReasonAuth},
		"HTTP 403": {flolivesim.AuthForbidden, providers.ReasonForbidden},
		"HTTP 200": {flolivesim.AuthErrorCode, providers.ReasonAuth},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{Password: "another", AuthFailure: tt.failure}, oneData)
			require.Equal(t, tt.want, w.fails().Reason)
			require.Equal(t, []string{"POST /auth/token"}, w.paths(), "nothing is sent without a token")
		})
	}
	bubble(t, "that do not hold the account are not tried by each of a fleet", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Password: "another", AuthFailure: flolivesim.AuthForbidden}, oneData)
		for range 10 {
			require.Equal(t, providers.ReasonForbidden, w.fails().Reason)
		}
		require.Equal(t, 1, w.sim.Logins())
		time.Sleep(time.Minute)
		w.sim.Change(func(o *flolivesim.Options) { o.Password = "" })
		w.mustFetch()
	})
}

func TestTokenEnds(t *testing.T) {
	for name, failure := range map[string]flolivesim.AuthFailure{
		"HTTP 401": flolivesim.AuthUnauthorized, "HTTP 403": flolivesim.AuthForbidden, "HTTP 200": flolivesim.AuthErrorCode,
	} {
		bubble(t, "and is renewed on "+name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{AuthFailure: failure}, oneData)
			w.mustFetch()
			for range 3 {
				w.paths()
				w.sim.ExpireTokens()
				w.mustFetch()
				const balance = "GET /subscriber/iccid/8944501234567890123/balance/data"
				require.Equal(t, []string{balance, "POST /auth/token", balance}, w.paths())
			}
		})
	}
	for name, status := range map[string]int{"HTTP 401": 401, "HTTP 403": 403} {
		bubble(t, "and a new one is refused too, "+name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{}, oneData)
			w.mustFetch()
			w.paths()
			w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Status: status})
			require.Equal(t, status, w.fails().Status)
			require.Len(t, w.paths(), 3, "one renewal and no loop")
			require.Equal(t, status, w.fails().Status)
			// After HTTP 401 the new token is dropped; HTTP 403 may be about the subscriber.
			require.Len(t, w.paths(), map[int]int{401: 2, 403: 1}[status], "no loop")
		})
	}
	bubble(t, "as its JWT says", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{TokenLife: time.Hour}, oneData, "auth: {token_lifetime: 1s}")
		w.mustFetch()
		time.Sleep(58*time.Minute - time.Second)
		w.mustFetch()
		require.Equal(t, 1, w.sim.Logins())
		time.Sleep(time.Second)
		w.mustFetch()
		require.Equal(t, 2, w.sim.Logins(), "two minutes before it ends")
	})
	bubble(t, "as its JWT says, even soon", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{TokenLife: 20 * time.Second}, oneData)
		w.mustFetch()
		time.Sleep(16 * time.Second)
		w.mustFetch()
		require.Equal(t, 2, w.sim.Logins())
	})
	bubble(t, "by its age if it does not say", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{TokenLife: time.Hour, OpaqueToken: true}, oneData)
		w.mustFetch()
		time.Sleep(10*time.Minute - 1)
		w.mustFetch()
		require.Equal(t, 1, w.sim.Logins())
		time.Sleep(time.Nanosecond)
		w.mustFetch()
		require.Equal(t, 2, w.sim.Logins())
	})
}

// TestForbiddenSubscriberIsNotTheToken: HTTP 403 was seen for suspended SIM cards,
// and a fleet may have many.
func TestForbiddenSubscriberIsNotTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{TokenLife: time.Hour},
			`subscribers: {list: [{type: iccid, value: "8944501234567890123", balance_ids: [data]}, {type: imsi, value: "234500000000001", balance_ids: [data]}]}`)
		w.sim.Fail("/api/v2/subscriber/imsi/234500000000001/balance/data", flolivesim.Fault{Status: 403})
		for range 60 {
			_, err := w.source(0).Fetch(t.Context())
			require.NoError(t, err)
			_, err = w.source(1).Fetch(t.Context())
			require.Equal(t, providers.ReasonForbidden, providers.AsError(err).Reason)
			time.Sleep(time.Minute)
		}
		require.LessOrEqual(t, w.sim.Logins(), 8, "no more than one for each token lifetime")
	})
}

func TestOneLoginForAnyNumberOfCallers(t *testing.T) {
	const callers = 50
	all := func(w *world, check func(error)) {
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				_, err := w.fetch()
				check(err)
			})
		}
		group.Wait()
	}
	slow := func(w *world) {
		w.faults.Add(simulate.Rule{Match: func(r *http.Request) bool { return r.Method == http.MethodPost }, Fault: simulate.Delay(time.Second)})
	}
	bubble(t, "that works", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, oneData)
		slow(w)
		all(w, func(err error) { require.NoError(t, err) })
		require.Equal(t, 1, w.sim.Logins())
		w.sim.ExpireTokens()
		all(w, func(err error) { require.NoError(t, err) })
		require.Equal(t, 2, w.sim.Logins())
	})
	bubble(t, "that fails", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Password: "another"}, oneData)
		slow(w)
		all(w, func(err error) { require.Equal(t, providers.ReasonAuth, providers.AsError(err).Reason) })
		require.Equal(t, 1, w.sim.Logins())
	})
	bubble(t, "whose own caller goes away", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, oneData)
		slow(w)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := w.source(0).Fetch(ctx)
			require.ErrorIs(t, err, context.Canceled)
		}()
		synctest.Wait()
		time.AfterFunc(time.Second/2, cancel)
		all(w, func(err error) { require.NoError(t, err) })
		require.Equal(t, 1, w.sim.Logins(), "the first did not arrive")
		require.Len(t, w.paths(), 2+callers)
	})
	bubble(t, "for which nobody waits for ever", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, oneData)
		slow(w)
		go func() { _, _ = w.fetch() }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := w.source(0).Fetch(ctx)
		require.ErrorIs(t, err, providers.ErrNotAsked)
		time.Sleep(time.Minute)
	})
}

func TestSecretFiles(t *testing.T) {
	bubble(t, "a changed password is a new login", func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), sim: flolivesim.New(flolivesim.Options{Password: "first", Subscribers: flolivesim.Listed{truck}})}
		w.faults = simulate.NewSwitch(w.sim)
		w.write("password", "first\n")
		w.open(user, "password_file: password", oneData)
		w.mustFetch()
		w.write("password", "second\n")
		require.Equal(t, providers.ReasonAuth, w.fails().Reason)
		w.sim.Change(func(o *flolivesim.Options) { o.Password = "second" })
		w.mustFetch()
		require.Equal(t, 3, w.sim.Logins())
	})
	bubble(t, "a changed token is taken", func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), sim: flolivesim.New(flolivesim.Options{StaticToken: "first-token", Subscribers: flolivesim.Listed{truck}})}
		w.faults = simulate.NewSwitch(w.sim)
		w.write("token", "first-token\n")
		w.open("token_file: token", oneData)
		w.mustFetch()
		w.sim.Change(func(o *flolivesim.Options) { o.StaticToken = "second-token" })
		require.Equal(t, providers.ReasonAuth, w.fails().Reason)
		require.Len(t, w.paths(), 2, "the same token is not tried twice")
		w.write("token", "second-token\n")
		w.mustFetch()
		// A token that changes while a request is under way.
		w.faults.Next(1, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				w.sim.Change(func(o *flolivesim.Options) { o.StaticToken = "third-token" })
				w.write("token", "third-token")
				rw.WriteHeader(http.StatusUnauthorized)
			})
		})
		w.mustFetch()
		require.Zero(t, w.sim.Logins())
		w.write("token", "two\nlines")
		require.Equal(t, providers.ReasonAuth, w.fails().Reason)
		require.NoError(t, os.Remove(filepath.Join(w.dir, "token")))
		_, err := w.fetch()
		require.Error(t, err, "the last good content has two lines")
	})
}

// TestShortSecretIsNotTakenForPartOfAnAnswer: the mask of secrets must not get at
// values.
func TestShortSecretIsNotTakenForPartOfAnAnswer(t *testing.T) {
	for _, text := range []string{"50.3", "errorCode", "value", "KB\",\""} {
		bubble(t, text, func(t *testing.T) {
			w := openWorld(t, t.TempDir(), flolivesim.Options{}, user, fmt.Sprintf("password: %q", text), oneData)
			require.Equal(t, []providers.SubscriberBalance{data}, w.mustFetch().SubscriberBalances)
			w.sim.Fail(string(flolivesim.KindBalance), flolivesim.Fault{Body: flolivesim.SampleUnavailable})
			require.Equal(t, providers.ReasonUnavailable, w.fails().Reason)
		})
	}
}

// TestTokenEndsAtTheGate: requests of a fleet wait for their turn longer than a token
// lives. None may be spent on one that is known to have ended.
func TestTokenEndsAtTheGate(t *testing.T) {
	for name, opaque := range map[string]bool{"an end that is told": false, "an end that is not told": true} {
		bubble(t, name, func(t *testing.T) {
			w := &world{t: t, dir: t.TempDir(), limit: quota.Limit{Requests: 1, Per: 20 * time.Second, Burst: 1}}
			w.sim = flolivesim.New(flolivesim.Options{TokenLife: 2 * time.Minute, OpaqueToken: opaque, Subscribers: flolivesim.Listed{truck}})
			w.faults = simulate.NewSwitch(w.sim)
			w.open(user, password, oneData)
			const callers = 40
			var group sync.WaitGroup
			for range callers {
				group.Go(func() { w.mustFetch() })
			}
			group.Wait()
			logins := w.sim.Logins()
			refused := len(w.paths()) - logins - callers
			if opaque {
				require.Equal(t, logins-1, refused, "one tells that a token has ended")
			} else {
				require.Zero(t, refused)
			}
		})
	}
	bubble(t, "an end before the first turn", func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), limit: quota.Limit{Requests: 1, Per: 20 * time.Second, Burst: 1}}
		w.sim = flolivesim.New(flolivesim.Options{TokenLife: 10 * time.Second, Subscribers: flolivesim.Listed{truck}})
		w.faults = simulate.NewSwitch(w.sim)
		w.open(user, password, oneData)
		require.Equal(t, providers.ReasonAuth, w.fails().Reason)
		require.Len(t, w.paths(), 2, "no loop of logins")
	})
}
