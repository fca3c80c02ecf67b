package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, c := range map[string]struct {
		header, date, body string
		want               time.Duration
	}{
		"nothing":                       {},
		"seconds":                       {header: "7", want: 7 * time.Second},
		"zero is no time":               {header: "0"},
		"negative":                      {header: "-3"},
		"fraction":                      {header: "1.5", want: 1500 * time.Millisecond},
		"far too long":                  {header: "86400", want: time.Hour},
		"too long for a number":         {header: "999999999999999999999999999999", want: time.Hour},
		"overflow":                      {header: "1e999", want: time.Hour},
		"not a number":                  {header: "NaN"},
		"garbled":                       {header: "soon"},
		"garbled, but the body says":    {header: "soon", body: "try again in 4 seconds", want: 4 * time.Second},
		"date":                          {header: "Wed, 04 Mar 2026 05:06:37 GMT", want: 30 * time.Second},
		"date by the provider's clock":  {header: "Wed, 04 Mar 2026 09:00:10 GMT", date: "Wed, 04 Mar 2026 09:00:00 GMT", want: 10 * time.Second},
		"date that is over":             {header: "Wed, 04 Mar 2020 05:06:37 GMT"},
		"date far ahead":                {header: "Wed, 04 Mar 2099 05:06:37 GMT", want: time.Hour},
		"body":                          {body: `{"message":"Quota exceeded. Please try again in 1 second(s)."}`, want: time.Second},
		"header goes before the body":   {header: "3", body: "try again in 9 second(s)", want: 3 * time.Second},
		"body with a huge number":       {body: "try again in 99999999999999999999 second(s)", want: time.Hour},
		"body that speaks of something": {body: "try again in a while"},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if c.header != "" {
				header.Set("Retry-After", c.header)
			}
			if c.date != "" {
				header.Set("Date", c.date)
			}
			assert.Equal(t, c.want, httpapi.RetryAfter(header, []byte(c.body), now))
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "", "")
	f.Add("Wed, 04 Mar 2026 05:06:37 GMT", "Wed, 04 Mar 2026 05:06:07 GMT", "")
	f.Add("", "", "Quota exceeded. Please try again in 1 second(s).")
	f.Add("1e308", "x", "try again in 1.7976931348623157e308 s")
	f.Fuzz(func(t *testing.T, value, date, body string) {
		d := httpapi.RetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, []byte(body), time.Unix(1_780_000_000, 0))
		if d < 0 || d > time.Hour {
			t.Fatalf("out of bounds: %v", d)
		}
	})
}
