package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, c := range map[string]struct {
		header []string
		date   string
		want   time.Duration
	}{
		"nothing":                      {},
		"seconds":                      {header: []string{"7"}, want: 7 * time.Second},
		"zero is no time":              {header: []string{"0"}},
		"negative":                     {header: []string{"-3"}},
		"fraction":                     {header: []string{"1.5"}, want: 1500 * time.Millisecond},
		"far too long":                 {header: []string{"86400"}, want: time.Hour},
		"too long for a number":        {header: []string{"999999999999999999999999999999"}, want: time.Hour},
		"overflow":                     {header: []string{"1e999"}, want: time.Hour},
		"not a number":                 {header: []string{"NaN"}},
		"garbled":                      {header: []string{"soon"}},
		"a unit that is not known":     {header: []string{"4 weeks"}},
		"date":                         {header: []string{"Wed, 04 Mar 2026 05:06:37 GMT"}, want: 30 * time.Second},
		"date by the provider's clock": {header: []string{"Wed, 04 Mar 2026 09:00:10 GMT"}, date: "Wed, 04 Mar 2026 09:00:00 GMT", want: 10 * time.Second},
		"date in the past":             {header: []string{"Wed, 04 Mar 2020 05:06:37 GMT"}},
		"date far ahead":               {header: []string{"Wed, 04 Mar 2099 05:06:37 GMT"}, want: time.Hour},
		"date with -0000":              {header: []string{"Wed, 04 Mar 2026 05:06:37 -0000"}, want: 30 * time.Second},
		"date with +0100":              {header: []string{"Wed, 04 Mar 2026 06:06:37 +0100"}, want: 30 * time.Second},
		"both dates with -0000":        {header: []string{"Wed, 04 Mar 2026 09:00:10 -0000"}, date: "Wed, 04 Mar 2026 09:00:00 -0000", want: 10 * time.Second},
		"date of RFC 3339":             {header: []string{"2026-03-04T05:06:37Z"}, want: 30 * time.Second},
		"two lines":                    {header: []string{"5", "120"}, want: 2 * time.Minute},
		"two lines, one garbled":       {header: []string{"soon", "120"}, want: 2 * time.Minute},
		"a line and a date":            {header: []string{"5", "Wed, 04 Mar 2026 05:06:37 GMT"}, want: 30 * time.Second},
		"two values":                   {header: []string{"120, 60"}, want: 2 * time.Minute},
		"with a unit":                  {header: []string{"120 seconds"}, want: 2 * time.Minute},
		"with a short unit":            {header: []string{"2m"}, want: 2 * time.Minute},
		"in a sentence":                {header: []string{"in 5 minutes"}, want: 5 * time.Minute},
		"milliseconds":                 {header: []string{"250 ms"}, want: 250 * time.Millisecond},
		"days":                         {header: []string{"2 days"}, want: time.Hour},
		"of two units":                 {header: []string{"1 minute and 30 seconds"}, want: 90 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if c.header != nil {
				header["Retry-After"] = c.header
			}
			if c.date != "" {
				header.Set("Date", c.date)
			}
			assert.Equal(t, c.want, retryAfter(header, now))
		})
	}
}

func TestRetryAfterText(t *testing.T) {
	for body, want := range map[string]time.Duration{
		"": 0,
		`{"message":"Quota exceeded. Please try again in 1 second(s)."}`:  time.Second,
		`{"message":"Quota exceeded. Please try again in 47 second(s)."}`: 47 * time.Second,
		"try again in 4 seconds":                                           4 * time.Second,
		"try again in 99999999999999999999 second(s)":                      time.Hour,
		"try again in a while":                                             0,
		"try again in 4 weeks":                                             0,
		"Too many requests. Try again in 5 minutes":                        5 * time.Minute,
		"Please retry after 2 min":                                         2 * time.Minute,
		"please wait 30 seconds":                                           30 * time.Second,
		"Limit reached. Please try again in 6m30s. Contact us":             390 * time.Second,
		"resets in 1 hour, and 5 minutes":                                  time.Hour,
		"try again in 1.2s":                                                1200 * time.Millisecond,
		"TRY AGAIN IN 3 SECONDS":                                           3 * time.Second,
		"100 requests in 60 seconds are allowed, try again in 5 second(s)": 5 * time.Second,
		"id 17 seconds":                                                    0,
		strings.Repeat(" ", 64<<10) + "try again in 4 seconds":             0,
	} {
		assert.Equal(t, want, retryAfterText([]byte(body)), body)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "", "")
	f.Add("Wed, 04 Mar 2026 05:06:37 GMT", "Wed, 04 Mar 2026 05:06:07 GMT", "")
	f.Add("", "", "Quota exceeded. Please try again in 1 second(s).")
	f.Add("1e308", "x", "try again in 1.7976931348623157e308 s")
	f.Add("5 min, 9h", "", "retry in 1 h and 99999999999999999999 s")
	f.Fuzz(func(t *testing.T, value, date, body string) {
		header := http.Header{"Retry-After": {value}, "Date": {date}}
		for _, d := range []time.Duration{retryAfter(header, time.Unix(1_780_000_000, 0)), retryAfterText([]byte(body))} {
			if d < 0 || d > time.Hour {
				t.Fatalf("out of bounds: %v", d)
			}
		}
	})
}
