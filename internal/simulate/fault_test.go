package simulate

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault  Fault
		status int // 0 if there is no answer
		body   string
		err    error
	}{
		"status": {fault: Status(404, "text/plain", "none", nil), status: 404, body: "none"},
		"body":   {fault: Body("{"), status: 200, body: "{"},
		"html": {
			fault: HTML(502), status: 502,
			body: "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n" +
				"<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n",
		},
		"redirect":                         {fault: Redirect(307, "http://elsewhere/"), status: 307},
		"closed early":                     {fault: CloseEarly(4), status: 200, body: "orig", err: io.ErrUnexpectedEOF},
		"closed early, in a second write":  {fault: CloseEarly(9), status: 200, body: "original ", err: io.ErrUnexpectedEOF},
		"closed after the header":          {fault: CloseEarly(0), status: 200, err: io.ErrUnexpectedEOF},
		"closed after the end":             {fault: CloseEarly(100), status: 200, body: "original body"},
		"reset in the body":                {fault: ResetAfter(4), status: 200, body: "orig", err: syscall.ECONNRESET},
		"reset before the header":          {fault: ResetAfter(0), err: syscall.ECONNRESET},
		"length declared too large":        {fault: WrongContentLength(20), status: 200, body: "original body", err: io.ErrUnexpectedEOF},
		"length declared too small":        {fault: WrongContentLength(4), status: 200, body: "orig"},
		"deep JSON":                        {fault: DeepJSON(3), status: 200, body: "[[[]]]"},
		"huge JSON, even":                  {fault: Huge(16), status: 200, body: `{"data":[0,0,0]}`},
		"huge JSON, odd":                   {fault: Huge(15), status: 200, body: `{"data": [0,0]}`},
		"gzip bomb, small":                 {fault: GzipBomb(5), status: 200, body: "[   ]"},
		"slow, but whole":                  {fault: SlowDrip(time.Second, 5), status: 200, body: "original body"},
		"delayed, but whole":               {fault: Delay(time.Second), status: 200, body: "original body"},
		"a fault inside a fault, delaying": {fault: func(h http.Handler) http.Handler { return Delay(time.Hour)(CloseEarly(1)(h)) }, status: 200, body: "o", err: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp, body, err := fetch(t, test.fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, "original ")
					_, _ = io.WriteString(w, "body")
				})))
				assert.ErrorIs(t, err, test.err)
				assert.Equal(t, test.body, body)
				if test.status != 0 {
					assert.Equal(t, test.status, resp.StatusCode)
				}
			})
		})
	}
}

func TestStatusHeaders(t *testing.T) {
	resp, _, err := fetch(t, Status(429, "application/json", "{}", http.Header{"Retry-After": {"7"}})(nil))
	require.NoError(t, err)
	assert.Equal(t, "7", resp.Header.Get("Retry-After"))
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	resp, _, err = fetch(t, Redirect(302, "/there")(nil))
	require.NoError(t, err)
	assert.Equal(t, "/there", resp.Header.Get("Location"))
}

func TestSlowFaultsEndWithTheContext(t *testing.T) {
	for name, fault := range map[string]Fault{
		"hang":  Hang(),
		"delay": Delay(time.Hour),
		"drip":  SlowDrip(time.Hour, 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				resp, err := Transport(fault(text("x"))).RoundTrip(newRequest(t, ctx, "http://sim/"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				assert.Equal(t, context.DeadlineExceeded, err)
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

func TestSlowDripTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, body, err := fetch(t, SlowDrip(time.Minute, 2)(text("12345")))
		require.NoError(t, err)
		assert.Equal(t, "12345", body)
		assert.Equal(t, 3*time.Minute, time.Since(start))
	})
}

func TestLargeBodies(t *testing.T) {
	const size = 1 << 20
	for _, fault := range []Fault{Huge(size), Huge(size + 1), GzipBomb(size)} {
		_, body, err := fetch(t, fault(nil))
		require.NoError(t, err)
		assert.InDelta(t, size, len(body), 1)
		assert.True(t, json.Valid([]byte(body)))
	}
	_, body, err := fetch(t, DeepJSON(100_000)(nil))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), body)
}

func TestSwitch(t *testing.T) {
	s := NewSwitch(text("fine"))
	ask := func(path string) string {
		resp, err := Transport(s).RoundTrip(newRequest(t, t.Context(), "http://sim"+path))
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	assert.Equal(t, "fine", ask("/"))

	s.Set(Body("all"))
	s.Add(Rule{Fault: Body("a"), Match: func(r *http.Request) bool { return r.URL.Path == "/a" }, Times: 2})
	s.Next(1, Body("next"))
	s.Next(0, Body("never"))
	var got []string
	for _, path := range []string{"/b", "/b", "/a", "/a", "/a"} {
		got = append(got, ask(path))
	}
	assert.Equal(t, []string{"next", "all", "a", "a", "all"}, got)

	s.Add(Rule{Match: func(r *http.Request) bool { return r.URL.Path == "/spared" }})
	assert.Equal(t, "fine", ask("/spared"))
	s.Clear()
	assert.Equal(t, "fine", ask("/"))
}

func TestSwitchCountsUnderConcurrency(t *testing.T) {
	s := NewSwitch(text("fine"))
	s.Next(50, Body("fault"))
	rec := &Recorder{}
	faults := make(chan string, 100)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, body, err := fetch(t, rec.Wrap(s))
			assert.NoError(t, err)
			faults <- body
		})
	}
	wg.Wait()
	close(faults)
	count := map[string]int{}
	for f := range faults {
		count[f]++
	}
	assert.Equal(t, map[string]int{"fine": 50, "fault": 50}, count)
	assert.Equal(t, 100, rec.Len())
}
