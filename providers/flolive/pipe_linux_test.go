package flolive_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/flolive"
)

// TestPipe: reading a pipe that no process writes to would never end.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	account, _ := parse(t, dir, user, password, "subscribers: {file: pipe}")
	_, err := flolive.Provider.Configure(account.Section)
	require.EqualError(t, err, "balance_exporter.yml:6: accounts[0].subscribers.file: "+path+" is not a regular file; name a CSV file of subscribers")
}
