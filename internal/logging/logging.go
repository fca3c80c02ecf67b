// Package logging makes the exporter's logger from its flags. Lines are free of
// secrets and control characters, also those of log/slog and the standard logger.
package logging

import (
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// The formats of New.
const (
	Logfmt = "logfmt"
	JSON   = "json"
)

// New returns a logger that writes lines to w from the level debug, info, warn
// or error on, in the format logfmt or json. Each line has ts (UTC, RFC 3339
// with nanoseconds) and caller. It is safe for concurrent use; w need not be.
//
// mask replaces the secrets in a finished line. It is not called for a line below
// the level. [Printable] is applied after it.
func New(w io.Writer, lowest, format string, mask func(string) string) (log.Logger, error) {
	allowed, err := level.Parse(lowest)
	if err != nil {
		return nil, fmt.Errorf("unknown log level %q; use one of debug, info, warn, error", lowest)
	}
	w = log.NewSyncWriter(w)
	var logger log.Logger
	switch format {
	case Logfmt:
		logger = log.NewLogfmtLogger(writer(func(line string) error {
			_, err := io.WriteString(w, Printable(mask(line)))
			return err
		}))
	case JSON:
		logger = log.NewJSONLogger(writer(func(line string) error {
			masked := Printable(mask(line))
			if masked != line && !json.Valid([]byte(masked)) {
				// A secret can equal a number, or text across two values.
				return log.NewJSONLogger(w).Log("msg", strings.TrimSpace(masked))
			}
			_, err := io.WriteString(w, masked)
			return err
		}))
	default:
		return nil, fmt.Errorf("unknown log format %q; use one of %s, %s", format, Logfmt, JSON)
	}
	logger = log.With(logger, "ts", log.DefaultTimestampUTC, "caller", log.Valuer(caller))
	return level.NewFilter(logger, level.Allow(allowed)), nil
}

// writer is an io.Writer that is called with one line at a time.
type writer func(line string) error

func (w writer) Write(line []byte) (int, error) { return len(line), w(string(line)) }

// Printable returns text with each character that a terminal may obey or not show
// (escapes, other control characters, direction marks, invalid UTF-8) replaced by
// its JSON escape, such as \u202e. Line feeds stay.
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// caller returns file and line of the statement that logs. Unlike
// log.DefaultCaller it does not depend on the number of wrapped loggers.
func caller() any {
	var counters [24]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	for {
		frame, more := frames.Next()
		if !loggers.MatchString(frame.Function) {
			return path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// loggers matches the functions that are not the caller.
var loggers = regexp.MustCompile(`^(log|log/slog|github\.com/go-kit/log(/level)?|github\.com/tjhop/slog-gokit|github\.com/balance-exporter/balance_exporter/internal/logging)\.`)

// Slog returns a logger for libraries that use log/slog. The level filter, the time
// and the caller are those of logger.
func Slog(logger log.Logger) *slog.Logger {
	return slog.New(sloggokit.NewGoKitHandler(fromSlog{logger}, slog.LevelDebug))
}

// fromSlog removes the caller and time of log/slog, which come between the level
// and the message.
type fromSlog struct{ log.Logger }

func (l fromSlog) Log(keyvals ...any) error {
	return l.Logger.Log(slices.Delete(keyvals, 2, slices.Index(keyvals, any(slog.MessageKey)))...)
}

// RedirectStd makes the default loggers of log and log/slog use logger. Messages of
// package log, such as those of net/http about a faulty connection, have the level
// warn and "..." in place of quoted texts.
func RedirectStd(logger log.Logger) {
	slog.SetDefault(Slog(logger)) // it redirects package log too, but whole
	stdlog.SetOutput(writer(func(line string) error {
		return level.Warn(logger).Log("msg", quoted.ReplaceAllLiteralString(strings.TrimSpace(line), `"..."`))
	}))
}

// quoted is a text in a message of package log. net/http quotes what a server sent as
// far as it has been read, which may end within a secret, where no mask knows it.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
