package exporter

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// Each key file is read a few times for each request of its account, however many
// accounts there are.
func TestKeyFilesOfManyAccounts(t *testing.T) {
	accounts := 200
	if os.Getenv(slowVariable) != "" {
		accounts = 1000
	}
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("accounts:\n")
	var o eightxeightsim.Options
	for i := range accounts {
		id, key := fmt.Sprintf("0f0e0d0c-0000-4000-8000-%012d", i), fmt.Sprintf("key-of-account-%d", i)
		file := filepath.Join(dir, key)
		require.NoError(t, os.WriteFile(file, []byte(key), 0o600))
		fmt.Fprintf(&text, "  - {name: a%d, provider: 8x8, base_url: \"http://sms.test\", account_id: %s, api_key_file: %s, prices: {enabled: false}}\n", i, id, file)
		o.Accounts = append(o.Accounts, eightxeightsim.Account{ID: id, APIKey: key, Currency: "USD", Balance: eightxeightsim.NewBalance("1")})
	}
	synctest.Test(t, func(t *testing.T) {
		b := benchOf(t, text.String(), map[string]http.Handler{"sms.test": eightxeightsim.New(o)})
		b.open()
		opens := opensIn(t, dir)
		require.Equal(t, accounts, strings.Count(b.get("/metrics", "10").Body.String(), "\naccount_balance{"))
		n := opens()
		require.GreaterOrEqual(t, n, accounts)
		require.LessOrEqual(t, n, 4*accounts)
		require.NoError(t, b.reload())
		require.LessOrEqual(t, opens(), accounts)
		b.get("/metrics", "10")
		require.Zero(t, opens(), "nothing is sent")
	})
}

// opensIn returns a function that returns how often files in dir were opened since its
// last call.
func opensIn(t *testing.T, dir string) func() int {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	_, err = syscall.InotifyAddWatch(fd, dir, syscall.IN_OPEN)
	require.NoError(t, err)
	return func() (n int) {
		events := make([]byte, 64<<10)
		for {
			length, err := syscall.Read(fd, events)
			if err == syscall.EAGAIN {
				return n
			}
			require.NoError(t, err)
			for rest := events[:length]; len(rest) > 0; n++ {
				require.Zero(t, binary.NativeEndian.Uint32(rest[4:])&syscall.IN_Q_OVERFLOW, "too many events")
				rest = rest[syscall.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:]):]
			}
		}
	}
}
