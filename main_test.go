package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/all"
)

// program runs the whole program until it ends by itself.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, nil, &out, &err)
	return code, out.String(), err.String()
}

// Each bad file gives one line, which the file itself holds, and exit code 1.
func TestBadConfiguration(t *testing.T) {
	dir := filepath.Join("internal", "config", "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "invalid-*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "invalid-host-") {
			continue // no provider has further hosts; internal/config reads these for one that has
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			first, _, _ := strings.Cut(string(text), "\n")
			want := strings.NewReplacer("# error: ", "balance_exporter: ", " ⏎ ", "\n", "FILE", file, "DIR", dir, "PROVIDERS", strings.Join(all.Names(), ", ")).Replace(first) + "\n"
			for _, mode := range []string{"--config.check", "--once"} {
				code, stdout, stderr := program(t, mode, "--config.file="+file)
				assert.Equal(t, 1, code)
				assert.Empty(t, stdout)
				assert.Equal(t, want, stderr)
			}
		})
	}
}

// A configuration that is no regular file is refused: reading a pipe would block.
func TestConfigurationThatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, []byte("accounts: [{name: a, provider: 8x8, account_id: a, api_key: key-of-tests}]"), 0o600))
	missing := filepath.Join(dir, "missing.yml")
	for _, c := range []struct{ config, web, want string }{
		{pipe, "", "--config.file " + pipe + ": not a regular file; name a YAML file with accounts"},
		{dir, "", "--config.file " + dir + ": is a directory; name a YAML file with accounts"},
		{missing, "", "--config.file " + missing + ": the file does not exist; create it or correct the path, or try --demo, which needs none"},
		{config, pipe, "--web.config.file: " + pipe + " is not a regular file; name a readable file"},
		{config, dir, "--web.config.file: " + dir + " is not a regular file; name a readable file"},
		{config, missing, "--web.config.file: stat " + missing + ": no such file or directory; name a readable file"},
	} {
		for _, mode := range []string{"--config.check", "--once"} {
			code, stdout, stderr := program(t, mode, "--config.file="+c.config, "--web.config.file="+c.web)
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			assert.Equal(t, "balance_exporter: "+c.want+"\n", stderr)
		}
	}
}

func TestBadFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"--nonsense":                           "unknown long flag '--nonsense'; see --help",
		"--log.level=loud":                     "--log.level=loud: enum value must be one of debug,info,warn,error, got 'loud'; see --help",
		"--log.format=xml":                     "--log.format=xml: enum value must be one of logfmt,json, got 'xml'; see --help",
		"--scrape.max-wait=soon":               `--scrape.max-wait=soon: time: invalid duration "soon"; see --help`,
		"--config.fil=x":                       "unknown long flag '--config.fil'; did you mean --config.file?",
		"--no-onec":                            "unknown long flag '--no-onec'; did you mean --once?",
		"--state.url=redis://me:pass@h:1":      `--state.url: a password in the URL is visible in the process list; remove it and give --state.password-file`,
		"--state.url=nosql:x":                  `--state.url: unknown scheme "nosql", expected memory:, sqlite:PATH, redis://[USER@]HOST:PORT[/DB], rediss://[USER@]HOST:PORT[/DB] or redis-sentinel://[USER@]HOST:PORT[,HOST:PORT...]/MASTER[/DB]`,
		"--web.telemetry-path=metrics":         `--web.telemetry-path "metrics": must start with /`,
		"--web.telemetry-path=/-/healthy":      `--web.telemetry-path "/-/healthy": must not be below /-/, which has the health and reload endpoints`,
		"--web.telemetry-path=//metrics":       `--web.telemetry-path "//metrics": must be a clean path, without //, /./ or /../; for example /metrics`,
		"--web.telemetry-path=/../m":           `--web.telemetry-path "/../m": must be a clean path, without //, /./ or /../; for example /metrics`,
		"--web.telemetry-path=/./":             `--web.telemetry-path "/./": must be a clean path, without //, /./ or /../; for example /metrics`,
		"--web.telemetry-path=/{x...}":         `--web.telemetry-path "/{x...}": must not contain spaces or any of {}?#%`,
		"--web.telemetry-path=GET example.com": `--web.telemetry-path "GET example.com": must start with /`,
	} {
		code, stdout, stderr := program(t, "--demo", "--once", flag)
		assert.Equal(t, 1, code, flag)
		assert.Empty(t, stdout, flag)
		assert.Equal(t, "balance_exporter: "+want+"\n", stderr)
	}
}

func TestBadVariables(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"BALANCE_EXPORTER_DEMO", "yes", "BALANCE_EXPORTER_DEMO=yes, which sets --demo: must be true or false; correct or unset it"},
		{"BALANCE_EXPORTER_SCRAPE_MAX_WAIT", "2", `BALANCE_EXPORTER_SCRAPE_MAX_WAIT=2, which sets --scrape.max-wait: time: missing unit in duration "2"; correct or unset it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(c.name, c.value)
			code, stdout, stderr := program(t, "--once")
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			assert.Equal(t, "balance_exporter: "+c.want+"\n", stderr)
		})
	}
}

func TestConfigCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
accounts:
  - name: messaging
    provider: 8x8
    account_id: bp-123
    api_key: a-key-of-tests
    base_url: http://sms.example.com
    balance: {refresh_interval: 1m}
    prices: {refresh_interval: 1h, countries: [SG, US], sub_accounts: [a, b, c]}
    rate_limit: {requests: 1, per: 1m, burst: 1}
  - name: partner
    provider: yeastar
    client_id: abc
    client_secret: NAME=value
    currency: USD
    balance: {low_threshold: 100}
`), 0o600))
	t.Setenv("BALANCE_EXPORTER_CONFIG_FILE", file)
	code, stdout, stderr := program(t, "--config.check")
	assert.Equal(t, 0, code)
	assert.Equal(t, `PROVIDER  ACCOUNT    SOURCE   SOURCES  INTERVAL  REQUESTS/H  LIMIT/H
8x8       messaging  balance  1        1m        60.0        
8x8       messaging  prices   1        1h        6.0         
8x8       messaging  total                       66.0        60
yeastar   partner    balance  1        1m        60.0        
yeastar   partner    total                       60.0        3600
Replicas: one. Each further process has a state and a quota of its own; the limits have room for the demand of 0. With --state.url=redis://... any number has one quota.
`, stdout)
	assert.Equal(t, strings.ReplaceAll(`warning: FILE:7: accounts[0].base_url: http:// sends the credentials unencrypted to another host; use https://
warning: FILE:5: accounts[0].account_id: "bp-123" is no GUID, as 8x8 documents account ids
warning: FILE:8: accounts[0].balance: has no low_threshold: no alert fires when the balance is low; set one
warning: FILE:14: accounts[1].client_secret: the secret looks like NAME=value, and all of it is sent; remove the name if the provider did not issue it
warning: 8x8/messaging: the configuration demands 66 requests per hour and rate_limit allows 60: values become older than refresh_interval; lengthen it, or raise rate_limit if the provider allows it
`, "FILE", file), stderr)
}

func TestExampleConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("examples", "config.yml"))
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"8x8", "yeastar", "flolive"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("a-secret-of-tests\n"), 0o600))
	}
	file := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte("/run/secrets"), []byte(dir)), 0o600))
	code, stdout, stderr := program(t, "--config.check", "--config.file="+file)
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr)
	for _, name := range []string{"messaging", "partner", "fleet"} {
		assert.Contains(t, stdout, name)
	}
}

// The demo works but for one subscriber that does not exist.
func TestOnceOnTheDemo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		code, stdout, stderr := program(t, "--demo", "--once", "--log.level=error")
		assert.Equal(t, 1, code)
		assert.Equal(t, `8x8/messaging balance: ok
8x8/messaging prices: ok
8x8/invoiced balance: ok
yeastar/partner balance: ok
telnyx/voice balance: ok
reloadly/airtime balance: ok
flolive/fleet subscribers: failed in part, subscribers: 199 fresh, 0 stale, 1 failed, 0 pending, not_found: subscriber scrapped-truck: floLIVE does not find what the request asks for (HTTP status 404, code SUBSCRIBER_1002): "Subscriber does not exist"
balance_exporter: some sources failed
`, stderr)
		for _, name := range []string{"account_balance{", "sms_price{", "subscriber_balance{"} {
			assert.Contains(t, stdout, "\n"+name)
		}
		for _, name := range []string{"go_", "process_", "promhttp_"} {
			assert.NotContains(t, stdout, "\n"+name)
		}
		assert.Equal(t, 7, strings.Count(stdout, "\nbalance_exporter_up{"))
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(line, "balance_exporter_up{") {
				assert.True(t, strings.HasSuffix(line, " 1\n"), line)
			}
		}
	})
}

// output is what a running program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns the text.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A SIGHUP during the start is obeyed after it, and SIGTERM ends the program.
func TestSignals(t *testing.T) {
	ctx, terminate := context.WithCancelCause(t.Context())
	reload := make(chan os.Signal, 1)
	reload <- syscall.SIGHUP
	var stderr output
	exited := make(chan int)
	go func() {
		exited <- run(ctx, []string{"--demo", "--web.listen-address=127.0.0.1:0"}, reload, io.Discard, &stderr)
	}()
	loaded := func(times int) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Count(stderr.String(), `msg="configuration loaded"`) == times }, 5*time.Minute, time.Millisecond)
	}
	loaded(2)
	reload <- syscall.SIGHUP
	loaded(3)
	terminate(errors.New("terminated"))
	require.Equal(t, 0, <-exited)
	require.Contains(t, stderr.String(), `msg="shutting down" cause=terminated`)
}

func TestHelpAndVersion(t *testing.T) {
	code, stdout, _ := program(t, "--help")
	assert.Equal(t, 0, code)
	for _, flag := range []string{
		"--config.file", "config.check", "demo", "once", "--state.url", "--scrape.timeout-offset", "--scrape.max-wait",
		"--web.listen-address", "--web.config.file", "web.systemd-socket", "--web.telemetry-path", "--log.level", "--log.format",
		"BALANCE_EXPORTER_CONFIG_FILE", ":10062",
	} {
		assert.Contains(t, stdout, flag)
	}
	assert.NotContains(t, stdout, "healthcheck", "only the image and the chart use it")
	code, stdout, _ = program(t, "--version")
	assert.Equal(t, 0, code)
	assert.Regexp(t, `^balance_exporter, version `, stdout)
}
