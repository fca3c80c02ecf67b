//go:build unix

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
)

// TestOnlyRegularFilesAreRead would not end if a pipe were opened: no process
// writes to it.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 64<<20+1))
	for path, problem := range map[string]string{
		pipe: "not a regular file", dir: "is a directory", "/dev/zero": "not a regular file", large: "larger than 64 MiB",
	} {
		_, err := config.Load(path, config.Only(all...))
		require.EqualError(t, err, "--config.file "+path+": "+problem+"; name a YAML file with accounts")
		for key, keys := range map[string]string{
			"ca_file": "ca_file: PATH", "cert_file": "cert_file: PATH, key: k", "key_file": "cert: c, key_file: PATH",
		} {
			_, err := parse("http: {tls_config: {"+strings.ReplaceAll(keys, "PATH", path)+"}}", nil)
			require.EqualError(t, err, "c.yml:4: accounts[0].http.tls_config."+key+": read "+path+": "+problem+"; name a file in PEM format")
		}
	}
	link := filepath.Join(dir, "link.yml") // as Kubernetes mounts it
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.yml"), []byte("accounts: [{name: a, provider: 8x8}]"), 0o600))
	require.NoError(t, os.Symlink("c.yml", link))
	_, err := config.Load(link, config.Only(all...))
	require.NoError(t, err)
}
