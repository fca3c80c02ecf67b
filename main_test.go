package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program runs the whole program until it ends by itself.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// Each bad file gives one line, which the file itself holds, and exit code 1.
func TestBadConfiguration(t *testing.T) {
	dir := filepath.Join("internal", "config", "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "invalid-*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			first, _, _ := strings.Cut(string(text), "\n")
			want := strings.NewReplacer("# error: ", "balance_exporter: ", "FILE", file, "DIR", dir).Replace(first) + "\n"
			for _, mode := range []string{"--config.check", "--once"} {
				code, stdout, stderr := program(t, mode, "--config.file="+file)
				assert.Equal(t, 1, code)
				assert.Empty(t, stdout)
				assert.Equal(t, want, stderr)
			}
		})
	}
}

func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ flag, want string }{
		{"--nonsense", "unknown long flag '--nonsense'"},
		{"--log.level=loud", "enum value must be one of"},
		{"--state.url=redis:x", `unknown kind "redis"`},
		{"--web.telemetry-path=metrics", "expected a path that starts with /"},
		{"--web.telemetry-path=/-/healthy", "not below /-/"},
		{"--scrape.max-wait=soon", "invalid duration"},
	} {
		code, _, stderr := program(t, "--demo", "--once", c.flag)
		assert.Equal(t, 1, code, c.flag)
		assert.Contains(t, stderr, c.want)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
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
`), 0o600))
	code, stdout, stderr := program(t, "--config.check", "--config.file="+file)
	assert.Equal(t, 0, code, stderr)
	assert.Equal(t, `PROVIDER  ACCOUNT    SOURCE   SOURCES  INTERVAL  REQUESTS/H  LIMIT/H
8x8       messaging  balance  1        1m0s      60.0        60
8x8       messaging  prices   1        1h0m0s    6.0         60
`, stdout)
	assert.Equal(t, 3, strings.Count(stderr, "warning:"), stderr)
	assert.Contains(t, stderr, "GUID")
	assert.Contains(t, stderr, "http")
	assert.Contains(t, stderr, "demands 66 requests per hour and the rate limit allows 60")
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

func TestOnceOnTheDemo(t *testing.T) {
	code, stdout, stderr := program(t, "--demo", "--once", "--log.level=error")
	for _, name := range []string{"account_balance{", "sms_price{", "balance_exporter_up{"} {
		assert.Contains(t, stdout, name)
	}
	for _, name := range []string{"go_", "process_", "promhttp_"} {
		assert.NotContains(t, stdout, "\n"+name)
	}
	assert.Contains(t, stderr, "8x8/messaging balance: ok\n")
	assert.Equal(t, 1, code, "one subscriber of the demo does not exist")
	assert.Contains(t, stderr, "flolive/fleet subscribers: failed in part, subscribers: 199 fresh, 0 stale, 1 failed, 0 pending")
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
	code, stdout, _ = program(t, "--version")
	assert.Equal(t, 0, code)
	assert.Contains(t, stdout, "balance_exporter")
}
