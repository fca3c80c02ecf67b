package logging_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/logging"
)

// lines returns what was logged, with times replaced by TIME and lines by LINE.
func lines(out *strings.Builder) string {
	s := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z`).ReplaceAllString(out.String(), "TIME")
	return regexp.MustCompile(`_test\.go:\d+`).ReplaceAllString(s, "_test.go:LINE")
}

func TestNewWritesTheFormatFromTheLevelOn(t *testing.T) {
	for name, test := range map[string]struct{ level, format, want string }{
		"logfmt": {"info", "logfmt", `level=info ts=TIME caller=logging_test.go:LINE msg="hello there"
level=error ts=TIME caller=logging_test.go:LINE component=cache msg="it failed" err=why
`},
		"JSON": {"info", "json", `{"caller":"logging_test.go:LINE","level":"info","msg":"hello there","ts":"TIME"}
{"caller":"logging_test.go:LINE","component":"cache","err":"why","level":"error","msg":"it failed","ts":"TIME"}
`},
		"error only": {"error", "logfmt", `level=error ts=TIME caller=logging_test.go:LINE component=cache msg="it failed" err=why
`},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			logger, err := logging.New(&out, test.level, test.format)
			require.NoError(t, err)
			require.NoError(t, level.Debug(logger).Log("msg", "too low"))
			require.NoError(t, level.Info(logger).Log("msg", "hello there"))
			require.NoError(t, level.Error(log.With(logger, "component", "cache")).Log("msg", "it failed", "err", errors.New("why")))
			require.Equal(t, test.want, lines(&out))
		})
	}
}

func TestCallerIsWhoeverLogsThroughAnyWrapping(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", "logfmt")
	require.NoError(t, err)
	logger = log.With(logging.Masked(log.With(logging.Masked(logger, hide), "a", 1), hide), "b", 2)
	require.NoError(t, level.Debug(logger).Log("msg", "too low"))
	require.NoError(t, level.Warn(logger).Log("msg", "hello"))
	require.Equal(t, "ts=TIME caller=logging_test.go:LINE a=1 level=warn b=2 msg=hello\n", lines(&out))
}

func TestNewRefusesWhatItDoesNotKnow(t *testing.T) {
	_, err := logging.New(nil, "loud", "logfmt")
	require.EqualError(t, err, `unknown log level "loud"; use one of debug, info, warn, error`)
	_, err = logging.New(nil, "info", "xml")
	require.EqualError(t, err, `unknown log format "xml"; use one of logfmt, json`)
}

func TestSlogLogsThroughTheLogger(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", "logfmt")
	require.NoError(t, err)
	s := logging.Slog(logging.Masked(logger, hide))
	s.Debug("too low")
	s.Info("Listening on", "address", "[::]:10062")
	s.With("a", 1).WithGroup("g").Warn("careful", "b", errors.New("of hunter2"), slog.Group("h", "c", "hunter2"))
	require.Equal(t, `ts=TIME caller=logging_test.go:LINE level=info msg="Listening on" address=[::]:10062
ts=TIME caller=logging_test.go:LINE level=warn msg=careful a=1 g.b="of <secret>" g.h.c=<secret>
`, lines(&out))
}

func hide(s string) string { return strings.ReplaceAll(s, "hunter2", "<secret>") }

type named string

type texter struct{ text string }

func (t texter) MarshalText() ([]byte, error) { return []byte(t.text), nil }

type pointer struct{ text string }

func (p *pointer) String() string { return p.text }

func TestMaskedHidesSecretsInEveryKindOfValue(t *testing.T) {
	text := "a hunter2"
	for name, v := range map[string]any{
		"string":            text,
		"bytes":             []byte(text),
		"error":             fmt.Errorf("wrapped: %w", errors.New(text)),
		"Stringer":          &url.URL{Scheme: "https", Host: "host", Path: "/hunter2"},
		"TextMarshaler":     texter{text},
		"named string":      named(text),
		"pointer to string": &text,
		"struct":            struct{ A string }{text},
		"map":               map[string]any{"a": []string{text}},
		"list":              []any{1, text},
		"slog value":        slog.AnyValue(errors.New(text)),
	} {
		for _, format := range []string{logging.Logfmt, logging.JSON} {
			t.Run(name+" in "+format, func(t *testing.T) {
				var out strings.Builder
				logger, err := logging.New(&out, "info", format)
				require.NoError(t, err)
				require.NoError(t, logging.Masked(logger, hide).Log("level", level.InfoValue(), "v", v, text, 1))
				require.NotContains(t, out.String(), "hunter2")
				require.Contains(t, strings.ReplaceAll(strings.ReplaceAll(out.String(), `\u003c`, "<"), `\u003e`, ">"), "<secret>")
			})
		}
	}
}

func TestMaskedLeavesOtherValuesAlone(t *testing.T) {
	var got []any
	logger := logging.Masked(log.LoggerFunc(func(keyvals ...any) error {
		got = keyvals
		return nil
	}), hide)
	given := []any{
		"level", level.InfoValue(), "int", 1, "float", 1.5, "bool", true, "nil", nil, "list", []string{"a"},
		"error", errors.New("plain"), "nil pointer", (*pointer)(nil), "channel", make(chan int),
	}
	require.NoError(t, logger.Log(given...))
	require.Equal(t, given, got)
}
