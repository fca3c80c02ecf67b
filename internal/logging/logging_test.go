package logging_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// lines returns what was logged, with times replaced by TIME and lines by LINE.
func lines(out *strings.Builder) string {
	s := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z`).ReplaceAllString(out.String(), "TIME")
	return regexp.MustCompile(`_test\.go:\d+`).ReplaceAllString(s, "_test.go:LINE")
}

func TestNewWritesTheFormatFromTheLevelOn(t *testing.T) {
	for name, test := range map[string]struct{ level, format, want string }{
		"logfmt": {"info", "logfmt", `ts=TIME caller=logging_test.go:LINE level=info msg="hello there"
ts=TIME caller=logging_test.go:LINE level=error component=cache msg="it failed" err=why
`},
		"JSON": {"info", "json", `{"caller":"logging_test.go:LINE","level":"info","msg":"hello there","ts":"TIME"}
{"caller":"logging_test.go:LINE","component":"cache","err":"why","level":"error","msg":"it failed","ts":"TIME"}
`},
		"error only": {"error", "logfmt", `ts=TIME caller=logging_test.go:LINE level=error component=cache msg="it failed" err=why
`},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			logger, err := logging.New(&out, test.level, test.format, hide)
			require.NoError(t, err)
			require.NoError(t, level.Debug(logger).Log("msg", "too low"))
			require.NoError(t, level.Info(logger).Log("msg", "hello there"))
			require.NoError(t, level.Error(log.With(logger, "component", "cache")).Log("msg", "it failed", "err", errors.New("why")))
			require.Equal(t, test.want, lines(&out))
		})
	}
}

func TestCallerIsWhereTheProgramLogs(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", "logfmt", hide)
	require.NoError(t, err)
	inner := log.With(logger, "a", 1)
	logger = log.With(log.LoggerFunc(func(keyvals ...any) error { return inner.Log(keyvals...) }), "b", 2)
	require.NoError(t, level.Warn(logger).Log("msg", "hello"))
	logging.Slog(logger).Warn("hello")
	require.Equal(t, "ts=TIME caller=logging_test.go:LINE a=1 level=warn b=2 msg=hello\n"+
		"ts=TIME caller=logging_test.go:LINE a=1 b=2 level=warn msg=hello\n", lines(&out))
}

func TestNewRefusesUnknownFlags(t *testing.T) {
	_, err := logging.New(nil, "loud", "logfmt", hide)
	require.EqualError(t, err, `unknown log level "loud"; use one of debug, info, warn, error`)
	_, err = logging.New(nil, "info", "xml", hide)
	require.EqualError(t, err, `unknown log format "xml"; use one of logfmt, json`)
}

func TestSlogLogsThroughTheLogger(t *testing.T) {
	var out strings.Builder
	logger, err := logging.New(&out, "info", "logfmt", hide)
	require.NoError(t, err)
	s := logging.Slog(logger)
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

func TestSecretsAreHiddenInEveryKindOfValue(t *testing.T) {
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
				logger, err := logging.New(&out, "info", format, hide)
				require.NoError(t, err)
				require.NoError(t, logger.Log("level", level.InfoValue(), "v", v, text, 1))
				require.NotContains(t, out.String(), "hunter2")
				require.Contains(t, out.String(), "<secret>")
			})
		}
	}
}

// shown counts how often it is converted to text.
type shown struct{ times *int }

func (s shown) String() string {
	*s.times++
	return "shown"
}

func TestDroppedLineCostsNothing(t *testing.T) {
	for _, format := range []string{logging.Logfmt, logging.JSON} {
		var out strings.Builder
		masked, times := 0, 0
		logger, err := logging.New(&out, "info", format, func(s string) string { masked++; return s })
		require.NoError(t, err)
		logger = log.With(logger, "account", shown{&times})
		for range 100 {
			require.NoError(t, level.Debug(logger).Log("msg", shown{&times}))
			logging.Slog(logger).Debug("dropped", "v", shown{&times})
		}
		require.Empty(t, out.String())
		require.Zero(t, masked+times)
		require.NoError(t, level.Info(logger).Log("msg", shown{&times}))
		require.Equal(t, 1, masked)
		require.Equal(t, 2, times)
	}
}

// A secret can equal a number, a key or a part of the syntax.
func TestMaskedLineIsValidJSON(t *testing.T) {
	for secret, want := range map[string]string{
		`hello`:  `{"caller":"logging_test.go:LINE","level":"info","msg":"<secret>\nthere","rows":12345,"ts":"TIME"}`,
		`12345`:  `{"msg":"{\"caller\":\"logging_test.go:LINE\",\"level\":\"info\",\"msg\":\"hello\\nthere\",\"rows\":<secret>,\"ts\":\"TIME\"}"}`,
		`nthere`: `{"msg":"{\"caller\":\"logging_test.go:LINE\",\"level\":\"info\",\"msg\":\"hello\\<secret>\",\"rows\":12345,\"ts\":\"TIME\"}"}`,
	} {
		var out strings.Builder
		logger, err := logging.New(&out, "info", "json", secretMask(secret))
		require.NoError(t, err)
		require.NoError(t, level.Info(logger).Log("msg", "hello\nthere", "rows", 12345))
		require.Equal(t, want+"\n", lines(&out))
	}
}

func secretMask(texts ...string) func(string) string {
	mask := secret.NewMask()
	for _, text := range texts {
		mask.Add(text)
	}
	return mask.String
}

func TestControlCharactersAreEscaped(t *testing.T) {
	const nasty = "escape \x1b[31m, DEL \x7f, C1 \u009b, bidi \u202e \u2066 \u200f, invisible \u200b \ufeff \U000e0041, separator \u2028, invalid \xff, é 世 🙂\r\n"
	const escaped = `escape \u001b[31m, DEL \u007f, C1 \u009b, bidi \u202e \u2066 \u200f, invisible \u200b \ufeff \udb40\udc41, separator \u2028, invalid \ufffd, é 世 🙂\r\n`
	for format, want := range map[string]string{
		"logfmt": `ts=TIME caller=logging_test.go:LINE bare=a\u202eb msg="` + escaped + `"` + "\n",
		"json":   `{"bare":"a\u202eb","caller":"logging_test.go:LINE","msg":"` + escaped + `","ts":"TIME"}` + "\n",
	} {
		var out strings.Builder
		logger, err := logging.New(&out, "info", format, hide)
		require.NoError(t, err)
		require.NoError(t, logger.Log("bare", "a\u202eb", "msg", nasty))
		require.Equal(t, want, lines(&out))
	}
	require.Equal(t, strings.ReplaceAll(escaped, `\r\n`, `\u000d`+"\n"), logging.Printable(nasty))
	require.Equal(t, "é 世\n", logging.Printable("é 世\n"))
	require.Equal(t, `cut \ufffd`, logging.Printable("cut \xc3"))
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain\n")
	f.Add("\x1b\u009b\u202e\U000e0001\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := logging.Printable(text)
		for _, r := range got {
			if r != '\n' && !strconv.IsPrint(r) || r == utf8.RuneError {
				t.Fatalf("%q is in %q", r, got)
			}
		}
		if again := logging.Printable(got); again != got {
			t.Fatalf("%q became %q", got, again)
		}
	})
}

// No form of a secret is in a line, whatever comes before and after it.
func FuzzLineShowsNoSecret(f *testing.F) {
	f.Add("user:", "s3cr3t", "")
	f.Add("", "a/b+c d&\"e\\ü<=", "\n")
	f.Add("\x00", "\x7f\b\f\u2028\u202e", "\xff")
	f.Add("\\", "\\u002", "6")
	encodings := map[string]func(string) string{
		"plain":  func(s string) string { return s },
		"query":  url.QueryEscape,
		"path":   url.PathEscape,
		"quoted": func(s string) string { return fmt.Sprintf("%q", s) },
		"ASCII":  func(s string) string { return fmt.Sprintf("%+q", s) },
		"JSON": func(s string) string {
			encoded, _ := json.Marshal(s)
			return string(encoded)
		},
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	}
	f.Fuzz(func(t *testing.T, before, text, after string) {
		if utf8.RuneCountInString(text) < 4 || !utf8.ValidString(text) || !utf8.ValidString(before+text+after) || strings.ContainsAny(text, "<>") || strings.Contains("<secret>", text) {
			t.Skip()
		}
		for name, encode := range encodings {
			message := before + encode(text) + after
			for _, format := range []string{logging.Logfmt, logging.JSON} {
				var out strings.Builder
				logger, err := logging.New(&out, "info", format, secretMask(text))
				require.NoError(t, err)
				require.NoError(t, logger.Log("msg", message))
				line := out.String()
				got, err := strconv.Unquote(strings.TrimSpace(line[strings.Index(line, "msg=")+len("msg="):]))
				if format == logging.JSON {
					var fields map[string]string
					require.NoError(t, json.Unmarshal([]byte(line), &fields))
					got = fields["msg"]
				} else if err != nil {
					got = "" // not quoted, or an escape is a part of the secret
				}
				shown := regexp.MustCompile(`(ts|caller)[=:"]+[^" ]+`).ReplaceAllString(line, "") + got
				bare := strings.Trim(encode(text), `"`)
				if !strings.Contains(line, "<secret>") || strings.Contains(shown, text) || len(bare) >= 4 && strings.Contains(shown, bare) {
					t.Fatalf("%s, %s: %q is in the line %q", name, format, text, line)
				}
			}
		}
	})
}

// TestNetHTTPLogsThroughTheLogger has a server that sends bytes without a request.
// net/http logs with the standard logger what it has read of them, here the start of a
// secret.
func TestNetHTTPLogsThroughTheLogger(t *testing.T) {
	defer func(w io.Writer, flags int, logger *slog.Logger) {
		slog.SetDefault(logger)
		stdlog.SetOutput(w)
		stdlog.SetFlags(flags)
	}(stdlog.Writer(), stdlog.Flags(), slog.Default())
	var out strings.Builder
	logger, err := logging.New(&out, "info", "logfmt", secretMask(`a "secret" key`))
	require.NoError(t, err)
	logging.RedirectStd(logger)

	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
		go func() {
			_, err := http.ReadRequest(bufio.NewReader(server))
			assert.NoError(t, err)
			_, err = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			assert.NoError(t, err)
		}()
		response, err := (&http.Client{Transport: transport}).Get("http://provider.example/")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		synctest.Wait()
		_, err = io.WriteString(server, "\x1b[31m a \"secret\" k")
		require.NoError(t, err)
		synctest.Wait()
	})
	slog.Info("from log/slog")
	require.Regexp(t, `^ts=TIME caller=transport\.go:\d+ level=warn msg="Unsolicited response received on idle HTTP channel starting with \\"\.\.\.\\"; err=<nil>"
ts=TIME caller=logging_test.go:LINE level=info msg="from log/slog"
$`, lines(&out))
}
