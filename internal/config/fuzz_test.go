package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

var andMore = regexp.MustCompile(`^and \d+ more$`)

// FuzzParse holds that no file makes the exporter panic, that every line of an
// error says where, and that none shows anything of the environment.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yml")
	require.NoError(f, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte("accounts: [{name: a, provider: 8x8, base_url: \"http://${A}@b\"}]"))
	f.Add([]byte("accounts: [{name: a, provider: 8x8, hosts: {auth: \"${A}\", x: y}, headers: {X-A: \"${A}\"}}]"))
	f.Add([]byte("accounts: [{name: a, provider: 8x8, api_key_file: \"./${A}\"}, {name: a, provider: 8x8, http: {tls_config: {ca_file: \"./${A}\"}}}]"))
	f.Add([]byte("${A}: &a\n- ? *a\n  : *a"))
	// A variable that looks like everything, and begins with what nothing else has.
	const canary = "c4nary"
	env := func(name string) (string, bool) { return canary + ":[\n{\"%" + name, name != "UNSET" }
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), canary) {
			t.Skip()
		}
		// The directory does not exist, so that no path leads to a file.
		file, err := config.Parse("c.yml", "/nonexistent", text, env, config.Only(all...))
		if err == nil {
			_, err = configureAll(file)
		}
		if err == nil {
			return
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if strings.Contains(line, "\r") || !strings.HasPrefix(line, "c.yml:") && !andMore.MatchString(line) {
				t.Fatalf("not a line that says where: %q", line)
			}
			if strings.Contains(line, canary) {
				t.Fatalf("shows the environment: %q", line)
			}
		}
	})
}
