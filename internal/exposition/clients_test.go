package exposition

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// TestClients has programs that are picky about gzip read a stitched answer.
func TestClients(t *testing.T) {
	k := &known{}
	for i := range 5 {
		k.groups = append(k.groups, priceGroup(fmt.Sprint("account", i), 1000, time.Now()))
	}
	k.groups = append(k.groups, fleetGroups("fleet", 2500, time.Now())...)
	e := New(Options{Groups: func() []*snapshot.Group { return k.groups }, Own: ownMetrics()})
	coding := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.Serve(w, r, everything)
		coding <- w.Header().Get("Content-Encoding")
	}))
	defer server.Close()
	want := plain(t, scrape(e, acceptText, "identity"))

	for _, client := range [][]string{
		{"curl", "--silent", "--show-error", "--fail", "--compressed", server.URL},
		{"wget", "--quiet", "--compression=auto", "--output-document=-", server.URL},
	} {
		t.Run(client[0], func(t *testing.T) {
			got, err := runTool(t, nil, client...)
			require.NoError(t, err)
			require.Equal(t, "gzip", <-coding)
			require.Equal(t, want, got)
		})
	}
	t.Run("gunzip", func(t *testing.T) {
		body := scrape(e, acceptText, "gzip").Body.Bytes()
		_, err := runTool(t, body, "gunzip", "--test")
		require.NoError(t, err)
		got, err := runTool(t, body, "gunzip", "--stdout")
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// runTool runs a program of the system and returns what it writes. An error has
// its complaint.
func runTool(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Skipf("%s is not installed here", args[0])
	}
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &complaint
	if err := cmd.Run(); err != nil || complaint.Len() > 0 {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out.String(), nil
}
