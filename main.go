// Command balance_exporter is a Prometheus exporter for balances and rates of
// prepaid telecom accounts.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/balance-exporter/balance_exporter/internal/exporter"
)

func main() {
	// Signals are caught before anything else: loading may take a while.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], reload, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, reload <-chan os.Signal, stdout, stderr io.Writer) int {
	exited := -1
	opts, err := parseFlags(args, stdout, func(code int) { exited = max(exited, code) })
	if exited >= 0 {
		return exited
	}
	if err == nil {
		err = exporter.Run(ctx, opts, reload, stdout, stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "balance_exporter: %v\n", err)
		return 1
	}
	return 0
}
