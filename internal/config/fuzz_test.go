package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

// FuzzParse holds that no file makes the exporter panic, that every error is one
// line, and that it shows nothing of the environment.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yml")
	require.NoError(f, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte("accounts: [{name: a, provider: 8x8, base_url: \"http://${A}@b\"}]"))
	f.Add([]byte("${A}: &a\n- ? *a\n  : *a"))
	// A variable that looks like everything, and begins with what nothing else has.
	const canary = "c4nary"
	env := func(name string) (string, bool) { return canary + ":[\n{\"%" + name, name != "UNSET" }
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), canary) {
			t.Skip()
		}
		// The directory does not exist, so that no path leads to a file.
		file, err := config.Parse("c.yml", "/nonexistent", text, env, lookup, known)
		if err == nil {
			_, err = configureAll(file)
		}
		if err == nil {
			return
		}
		message := err.Error()
		if strings.ContainsAny(message, "\r\n") || !strings.HasPrefix(message, "c.yml:") {
			t.Fatalf("not one line that says where: %q", message)
		}
		if strings.Contains(message, canary) {
			t.Fatalf("shows the environment: %q", message)
		}
	})
}
