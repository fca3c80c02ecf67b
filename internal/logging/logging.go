// Package logging makes the exporter's logger from its flags, bridges it to
// log/slog for exporter-toolkit, and keeps secrets out of it.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

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
func New(w io.Writer, lowest, format string) (log.Logger, error) {
	allowed, err := level.Parse(lowest)
	if err != nil {
		return nil, fmt.Errorf("unknown log level %q; use one of debug, info, warn, error", lowest)
	}
	var logger log.Logger
	switch format {
	case Logfmt:
		logger = log.NewLogfmtLogger(log.NewSyncWriter(w))
	case JSON:
		logger = log.NewJSONLogger(log.NewSyncWriter(w))
	default:
		return nil, fmt.Errorf("unknown log format %q; use one of %s, %s", format, Logfmt, JSON)
	}
	logger = level.NewFilter(logger, level.Allow(allowed))
	return log.With(logger, "ts", log.DefaultTimestampUTC, "caller", log.Valuer(caller)), nil
}

// caller returns file and line of whoever logs. Unlike log.DefaultCaller it does
// not depend on how many loggers are wrapped around each other.
func caller() any {
	var counters [16]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	for {
		frame, more := frames.Next()
		if !isLogging(frame.Function) {
			return path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// machinery lists the packages that a message passes on its way.
var machinery = []string{
	"github.com/go-kit/log.",
	"github.com/go-kit/log/level.",
	"github.com/tjhop/slog-gokit.",
	"log/slog.",
	"log.",
	reflect.TypeFor[masked]().PkgPath() + ".",
}

func isLogging(function string) bool {
	return slices.ContainsFunc(machinery, func(p string) bool { return strings.HasPrefix(function, p) })
}

// Slog returns a logger for libraries that speak log/slog. The level filter, the
// time and the caller are those of logger.
func Slog(logger log.Logger) *slog.Logger {
	return slog.New(handler{sloggokit.NewGoKitHandler(logger, slog.LevelDebug)})
}

// handler takes time and caller out of records, for logger adds its own.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	record.Time, record.PC = time.Time{}, 0
	return h.Handler.Handle(ctx, record)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name)}
}
