package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/exporter"
)

// parseFlags parses the command line and the environment: BALANCE_EXPORTER_ and the name
// of a flag in capitals. Help and version go to out, and exit is called after them.
func parseFlags(args []string, out io.Writer, exit func(int)) (exporter.Options, error) {
	var o exporter.Options
	app := kingpin.New("balance_exporter", "Prometheus exporter for balances and rates of prepaid telecom accounts.")
	app.DefaultEnvars()
	app.HelpFlag.Short('h')
	app.Version(exporter.Version())
	app.UsageWriter(out).ErrorWriter(out).Terminate(exit)
	app.Flag("config.file", "Configuration file with the accounts.").Default("balance_exporter.yml").StringVar(&o.ConfigFile)
	app.Flag("config.check", "Validate the configuration, print the requests per hour that it plans, and exit. Sends nothing.").BoolVar(&o.ConfigCheck)
	app.Flag("demo", "Serve from simulators of all providers in this process. Needs no configuration, credentials or network.").BoolVar(&o.Demo)
	app.Flag("once", "Refresh every source once, print the metrics, and exit; with 1 if any source failed.").BoolVar(&o.Once)
	// Hidden: only the image and the chart call it, because they have no shell and no curl.
	app.Flag("healthcheck", "Ask the exporter that runs at --web.listen-address whether it is healthy, and exit with 0 or 1.").Hidden().BoolVar(&o.HealthCheck)
	app.Flag("state.url", "Where snapshots and quota state are persisted: memory:, sqlite:PATH, or for several replicas redis://[USER@]HOST:PORT[/DB], rediss://... or redis-sentinel://[USER@]HOST:PORT[,HOST:PORT...]/MASTER[/DB].").Default("memory:").StringVar(&o.StateURL)
	app.Flag("state.password-file", "File with the password of the Redis user.").StringVar(&o.StatePasswordFile)
	app.Flag("state.prefix", "Prefix of every Redis key.").Default("balance_exporter:").StringVar(&o.StatePrefix)
	app.Flag("scrape.timeout-offset", "Offset to subtract from the scrape timeout that Prometheus sends.").Default("500ms").DurationVar(&o.TimeoutOffset)
	app.Flag("scrape.max-wait", "Longest wait of a scrape for refreshes when it has something to serve, and for subscribers always.").Default("2s").DurationVar(&o.MaxWait)
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").Default("/metrics").StringVar(&o.TelemetryPath)
	app.Flag("web.external-url", "Where users reach the exporter behind a reverse proxy; links use it.").StringVar(&o.ExternalURL)
	app.Flag("log.level", "Only log messages with this severity or above.").Default("info").EnumVar(&o.LogLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Output format of log messages.").Default("logfmt").EnumVar(&o.LogFormat, "logfmt", "json")
	o.Web = kingpinflag.AddFlags(app, ":10062")
	if _, err := app.Parse(args); err != nil {
		return o, explain(app, args, err)
	}
	return o, nil
}

// explain returns an error of the library with the flag or variable that it is about:
// the library names only unknown flags.
func explain(app *kingpin.Application, args []string, err error) error {
	parsed, _ := app.ParseContext(args)
	for _, element := range parsed.Elements {
		if f, ok := element.Clause.(*kingpin.FlagClause); ok && element.Value != nil {
			if bad := f.Model().Value.Set(*element.Value); bad != nil {
				return fmt.Errorf("--%s=%s: %w; see --help", f.Model().Name, *element.Value, bad)
			}
		}
	}
	var known []string
	for _, f := range app.Model().Flags {
		known = append(known, f.Name)
		value, bad := os.Getenv(f.Envar), f.Value.Set(os.Getenv(f.Envar))
		if f.IsBoolFlag() && bad != nil {
			bad = errors.New("must be true or false")
		}
		if value != "" && bad != nil {
			return fmt.Errorf("%s=%s, which sets --%s: %w; correct or unset it", f.Envar, value, f.Name, bad)
		}
	}
	if flag, ok := strings.CutPrefix(err.Error(), "unknown long flag '--"); ok {
		if nearest := config.Nearest(strings.Trim(strings.TrimPrefix(flag, "no-"), "'"), known); nearest != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, nearest)
		}
	}
	return fmt.Errorf("%w; see --help", err)
}
