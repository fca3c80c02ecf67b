package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/balance-exporter/balance_exporter/internal/exporter"
)

const defaultAddress = ":10062"

// stampVersion takes version and date from what Go records in the binary (go install,
// go build in a checkout) unless the linker has set them. Go's own fallback is only for
// the revision.
func stampVersion() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	if version.Version == "" && info.Main.Version != "(devel)" {
		version.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" && version.BuildDate == "" {
			version.BuildDate = s.Value
		}
	}
}

// parseFlags parses the command line. Every flag can also be set in the environment,
// as BALANCE_EXPORTER_ and its name in capitals. Help and version go to out, and
// exit is called after them.
func parseFlags(args []string, out io.Writer, exit func(int)) (exporter.Options, error) {
	var o exporter.Options
	stampVersion()
	app := kingpin.New("balance_exporter", "Prometheus exporter for balances and rates of prepaid telecom accounts.")
	app.DefaultEnvars()
	app.HelpFlag.Short('h')
	app.Version(version.Print("balance_exporter"))
	app.UsageWriter(out)
	app.ErrorWriter(out)
	app.Terminate(exit)
	app.Flag("config.file", "Configuration file with the accounts.").Default("balance_exporter.yml").StringVar(&o.ConfigFile)
	app.Flag("config.check", "Validate the configuration, print the requests per hour that it plans, and exit. Sends nothing.").BoolVar(&o.ConfigCheck)
	app.Flag("demo", "Serve from simulators of all providers in this process. Needs no configuration, credentials or network.").BoolVar(&o.Demo)
	app.Flag("once", "Refresh every source once, print the metrics, and exit; with 1 if any source failed.").BoolVar(&o.Once)
	app.Flag("healthcheck", "Ask the exporter that runs at --web.listen-address whether it is healthy, and exit with 0 or 1. For images without a shell.").BoolVar(&o.HealthCheck)
	app.Flag("state.url", "Where snapshots and quota state are persisted: memory: or sqlite:PATH.").Default("memory:").StringVar(&o.StateURL)
	app.Flag("scrape.timeout-offset", "Offset to subtract from the scrape timeout that Prometheus sends.").Default("500ms").DurationVar(&o.TimeoutOffset)
	app.Flag("scrape.max-wait", "Longest wait of a scrape for refreshes when it has something to serve, and for subscribers always.").Default("2s").DurationVar(&o.MaxWait)
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").Default("/metrics").StringVar(&o.TelemetryPath)
	app.Flag("log.level", "Only log messages with this severity or above.").Default("info").EnumVar(&o.LogLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Output format of log messages.").Default("logfmt").EnumVar(&o.LogFormat, "logfmt", "json")
	o.Web = kingpinflag.AddFlags(app, defaultAddress)
	if _, err := app.Parse(args); err != nil {
		return o, fmt.Errorf("%w, try --help", err)
	}
	return o, nil
}
