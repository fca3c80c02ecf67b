package main

import (
	"io"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
)

const defaultAddress = ":10062"

// flags is the command line. Every flag can also be set in the environment, as
// BALANCE_EXPORTER_ and its name in capitals.
type flags struct {
	configFile    string
	configCheck   bool
	demo          bool
	once          bool
	stateURL      string
	timeoutOffset time.Duration
	maxWait       time.Duration
	telemetryPath string
	logLevel      string
	logFormat     string
	web           *web.FlagConfig
}

// parseFlags reads args. Help and version go to out, and exit is called after
// them.
func parseFlags(args []string, out io.Writer, exit func(int)) (flags, error) {
	var f flags
	app := kingpin.New("balance_exporter", "Prometheus exporter for balances and rates of telecom providers.")
	app.DefaultEnvars()
	app.HelpFlag.Short('h')
	app.Version(version.Print("balance_exporter"))
	app.UsageWriter(out)
	app.ErrorWriter(out)
	app.Terminate(exit)
	app.Flag("config.file", "File with the accounts.").Default("balance_exporter.yml").StringVar(&f.configFile)
	app.Flag("config.check", "Check the configuration, print what it demands of each provider, and exit. Nothing is sent.").BoolVar(&f.configCheck)
	app.Flag("demo", "Serve invented accounts on simulated providers. Needs no configuration, no credentials and no network.").BoolVar(&f.demo)
	app.Flag("once", "Read every source once, print the metrics, and exit: with 1 if a source failed.").BoolVar(&f.once)
	app.Flag("state.url", "Where values, cool-downs and spent quota survive a restart: memory: or bolt:PATH.").Default("memory:").StringVar(&f.stateURL)
	app.Flag("scrape.timeout-offset", "Time taken off the scrape timeout that Prometheus tells.").Default("500ms").DurationVar(&f.timeoutOffset)
	app.Flag("scrape.max-wait", "How long a scrape waits for refreshes when every source has a value to serve meanwhile.").Default("2s").DurationVar(&f.maxWait)
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&f.telemetryPath)
	app.Flag("log.level", "Least severe level to log.").Default("info").EnumVar(&f.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Format of the log.").Default("logfmt").EnumVar(&f.logFormat, "logfmt", "json")
	f.web = kingpinflag.AddFlags(app, defaultAddress)
	_, err := app.Parse(args)
	return f, err
}
