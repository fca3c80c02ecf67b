package yeastar_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

func TestTokenIsKept(t *testing.T) {
	for name, options := range map[string]yeastarsim.Options{
		"as documented":        {},
		"expiresIn number":     {ExpiresIn: yeastarsim.ExpiresInNumber},
		"expiresIn unreadable": {ExpiresIn: yeastarsim.ExpiresInUnreadable},
		"bare token head":      {TokenHead: yeastarsim.TokenHeadBare},
		"empty token head":     {TokenHead: yeastarsim.TokenHeadEmpty},
		"refresh token stays":  {KeepRefreshToken: true},
		"one token at a time":  {SingleToken: true},
		"token is reused":      {ReuseToken: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, options)
				var seen yeastarsim.Counters
				p.reads(t, 675.24)
				p.sent(t, &seen, 1, 0, 1)
				// 28 minutes are the life without the margin.
				time.Sleep(28*time.Minute - 1)
				p.reads(t, 675.24)
				p.sent(t, &seen, 0, 0, 1)
				for range 3 {
					time.Sleep(28 * time.Minute)
					p.reads(t, 675.24)
					p.sent(t, &seen, 0, 1, 1)
				}
			})
		})
	}
}

func TestRenewalBeforeTheEnd(t *testing.T) {
	for life, kept := range map[time.Duration]time.Duration{
		time.Second:         800 * time.Millisecond,
		time.Minute:         48 * time.Second,
		10 * time.Minute:    8 * time.Minute,
		time.Hour:           58 * time.Minute,
		90 * 24 * time.Hour: 24*time.Hour - 2*time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, yeastarsim.Options{AccessLife: life, RefreshLife: 1000 * time.Hour})
			var seen yeastarsim.Counters
			p.reads(t, 675.24)
			p.sent(t, &seen, 1, 0, 1)
			time.Sleep(kept - 1)
			p.reads(t, 675.24)
			p.sent(t, &seen, 0, 0, 1)
			time.Sleep(time.Nanosecond)
			p.reads(t, 675.24)
			p.sent(t, &seen, 0, 1, 1)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		// The shorter life counts, whatever the token is good for.
		p := open(t, yeastarsim.Options{ExpiresIn: yeastarsim.ExpiresInSmall})
		var seen yeastarsim.Counters
		p.reads(t, 675.24)
		time.Sleep(time.Minute)
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 1, 2)
	})
}

// forms are the ways in which an error may be told.
func forms() map[string]yeastarsim.Options {
	all := map[string]yeastarsim.Options{}
	for status, where := range map[yeastarsim.ErrorStatus]string{
		yeastarsim.StatusHTTP: "HTTP", yeastarsim.StatusField: "status", yeastarsim.StatusCode: "code",
	} {
		for form, name := range map[yeastarsim.ErrorForm]string{
			yeastarsim.ErrorEnvelope: "envelope", yeastarsim.ErrorOAuth: "OAuth", yeastarsim.ErrorHTML: "HTML",
		} {
			if form == yeastarsim.ErrorHTML && status != yeastarsim.StatusHTTP {
				continue // says nothing
			}
			all[name+" by "+where] = yeastarsim.Options{ErrorStatus: status, ErrorForm: form}
		}
	}
	return all
}

func TestRefusedTokenIsRenewed(t *testing.T) {
	for name, options := range forms() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, options)
				var seen yeastarsim.Counters
				p.reads(t, 675.24)
				p.sent(t, &seen, 1, 0, 1)

				p.sim.ExpireTokens()
				p.reads(t, 675.24)
				p.sent(t, &seen, 0, 1, 2)

				p.sim.ExpireTokens()
				p.sim.ExpireRefreshTokens()
				p.reads(t, 675.24)
				p.sent(t, &seen, 1, 1, 2)

				p.reads(t, 675.24)
				p.sent(t, &seen, 0, 0, 1)
			})
		})
	}
}

func TestRefusedCredentials(t *testing.T) {
	for name, options := range forms() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, options)
				var seen yeastarsim.Counters
				p.sim.Change(func(o *yeastarsim.Options) { o.ClientSecret = "another" })
				for range 2 {
					e := p.fails(t)
					require.Equal(t, providers.ReasonAuth, e.Reason, e)
					p.sent(t, &seen, 1, 0, 0)
					require.ErrorIs(t, p.fails(t), providers.ErrNotAsked)
					p.sent(t, &seen, 0, 0, 0)
					p.block(false)
				}
				p.sim.Change(func(o *yeastarsim.Options) { o.ClientSecret = "" })
				p.reads(t, 675.24)
			})
		})
	}
}

func TestExpiredRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{RefreshLife: time.Hour})
		var seen yeastarsim.Counters
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 0, 1)
		time.Sleep(2 * time.Hour)
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 1, 1)
	})
}

// TestNoLoop counts what is sent while every token is refused.
func TestNoLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		var seen yeastarsim.Counters
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 0, 1)
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Status: 401})

		require.Equal(t, providers.ReasonAuth, p.fails(t).Reason)
		p.sent(t, &seen, 1, 1, 3) // the current token, a refreshed one, one from a login
		for range 3 {
			require.ErrorIs(t, p.fails(t), providers.ErrNotAsked)
			p.sent(t, &seen, 0, 0, 0)
			p.block(false)
			require.Equal(t, providers.ReasonAuth, p.fails(t).Reason)
			p.sent(t, &seen, 1, 0, 1)
		}
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{})
		p.block(false)
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 0, 1)
	})
}

// TestRefreshThatFails is about what a failed refresh is followed by: a login at
// once if the provider found fault with it, else by one next time.
func TestRefreshThatFails(t *testing.T) {
	for status, atOnce := range map[int]bool{400: true, 401: true, 403: true, 404: true, 500: false, 503: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, yeastarsim.Options{})
				var seen yeastarsim.Counters
				p.reads(t, 675.24)
				p.sent(t, &seen, 1, 0, 1)
				time.Sleep(29 * time.Minute)
				p.sim.Fail(yeastarsim.TokenPath, yeastarsim.Fault{Status: status, Times: 1})
				if !atOnce {
					e := p.fails(t)
					require.Equal(t, providers.ReasonUnavailable, e.Reason)
					require.Contains(t, e.Message, "requesting a token: Yeastar is unavailable")
					p.sent(t, &seen, 0, 1, 0)
					p.reads(t, 675.24)
					p.sent(t, &seen, 1, 0, 1)
					return
				}
				p.reads(t, 675.24)
				p.sent(t, &seen, 1, 1, 1)
			})
		})
	}
}

func TestRefreshWithoutARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.sim.Fail(yeastarsim.TokenPath, yeastarsim.Fault{Body: `{"code":"success","status":200,"result":{"token":"abcdefgh","expiresIn":"600"}}`})
		p.sim.Fail(yeastarsim.BalancePath, yeastarsim.Fault{Body: yeastarsim.SampleBalance})
		var seen yeastarsim.Counters
		for range 2 {
			p.reads(t, 675.24)
			p.sent(t, &seen, 1, 0, 1)
			time.Sleep(10 * time.Minute)
		}
	})
}

func TestOneRenewalForManyCallers(t *testing.T) {
	fetchAll := func(p *partner, ctx context.Context) (errs [20]error) {
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = p.source.Fetch(ctx) })
		}
		wg.Wait()
		return errs
	}
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.delay = time.Second
		var seen yeastarsim.Counters
		require.Equal(t, [20]error{}, fetchAll(p, t.Context()))
		p.sent(t, &seen, 1, 0, 20)

		time.Sleep(time.Hour)
		require.Equal(t, [20]error{}, fetchAll(p, t.Context()))
		p.sent(t, &seen, 0, 1, 20)

		p.sim.ExpireTokens()
		require.Equal(t, [20]error{}, fetchAll(p, t.Context()))
		p.sent(t, &seen, 0, 1, 40)

		p.sim.Fail("", yeastarsim.Fault{Status: 401})
		for _, err := range fetchAll(p, t.Context()) {
			require.Equal(t, providers.ReasonAuth, providers.AsError(err).Reason)
		}
		p.sent(t, &seen, 1, 1, 20)
	})
}

// TestCallersThatLeave is about callers whose contexts end, waiting for a token or
// while they get it for the others.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.delay = 10 * time.Second
		first, leave := context.WithCancel(t.Context())
		second, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()

		errs := make([]error, 3)
		var wg sync.WaitGroup
		for i, ctx := range []context.Context{first, second, t.Context()} {
			wg.Go(func() { _, errs[i] = p.source.Fetch(ctx) })
			synctest.Wait()
		}
		time.Sleep(time.Second)
		leave()
		wg.Wait()
		require.ErrorIs(t, errs[0], context.Canceled)
		require.ErrorIs(t, errs[1], context.DeadlineExceeded)
		require.NoError(t, errs[2])
		require.Equal(t, 1, p.sim.Counters().BalanceReads)
	})
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.delay = 10 * time.Second
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = p.source.Fetch(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := p.source.Fetch(ctx)
		require.ErrorIs(t, err, why)
		wg.Wait()
	})
}

func TestChangedSecretLogsInAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o600)) }
	write("the-old-secret")
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{}, sound[0], "client_secret_file: "+file, sound[2])
		p.sim.Change(func(o *yeastarsim.Options) { o.ClientSecret = "the-old-secret" })
		var seen yeastarsim.Counters
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 0, 1)

		write("the-new-secret!")
		p.sim.Change(func(o *yeastarsim.Options) { o.ClientSecret = "the-new-secret!" })
		p.reads(t, 675.24)
		p.sent(t, &seen, 1, 0, 1)

		require.NoError(t, os.Remove(file))
		p.reads(t, 675.24)
		p.sent(t, &seen, 0, 0, 1)
	})
}

func TestTokenThatCannotBeSent(t *testing.T) {
	for _, token := range []string{`"a\nb"`, `"a b"`, `"ü"`, `""`, `" "`, `null`, `{}`} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, yeastarsim.Options{})
			var seen yeastarsim.Counters
			p.sim.Fail(yeastarsim.TokenPath, yeastarsim.Fault{Body: `{"code":"success","status":200,"result":{"token":` + token + `}}`})
			require.Equal(t, providers.ReasonBadResponse, p.fails(t).Reason, token)
			p.sent(t, &seen, 1, 0, 0)
		})
	}
}

func TestTokensAreMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, yeastarsim.Options{})
		p.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != yeastarsim.BalancePath {
					next.ServeHTTP(w, r)
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w, `{"code":"no","detailMessage":%q}`, r.Header.Get("Authorization"))
			})
		}
		require.Equal(t, `Yeastar refuses the request as invalid (HTTP status 400, code no): "Bearer <secret>"`, p.fails(t).Message)
	})
}
