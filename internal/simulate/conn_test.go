package simulate

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

func TestConnConforms(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = connect("client:1", "server:2")
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, nil
	})
}

// What was written before the connection ended arrives first.
func TestConnEnds(t *testing.T) {
	for name, test := range map[string]struct {
		linger int
		read   error
		write  error
	}{
		"closed": {linger: -1, read: io.EOF, write: syscall.EPIPE},
		"reset":  {linger: 0, read: syscall.ECONNRESET, write: syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connect("client:1", "server:2")
			_, err := server.Write([]byte("last"))
			require.NoError(t, err)
			require.NoError(t, server.SetLinger(test.linger))
			require.NoError(t, server.Close())
			got, err := io.ReadAll(client)
			assert.Equal(t, "last", string(got))
			if !errors.Is(test.read, io.EOF) {
				assert.ErrorIs(t, err, test.read)
				assert.EqualError(t, err, "read tcp client:1->server:2: read: connection reset by peer")
			}
			_, err = client.Write([]byte("x"))
			assert.ErrorIs(t, err, test.write)
			_, err = server.Read(make([]byte, 1))
			assert.ErrorIs(t, err, net.ErrClosed)
			_, err = server.Write([]byte("x"))
			assert.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

// A write blocks when the buffer is full, and a deadline ends it, in fake time.
func TestConnBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connect("client:1", "server:2")
		start := time.Now()
		require.NoError(t, client.SetWriteDeadline(start.Add(time.Hour)))
		n, err := client.Write(make([]byte, connBuffer+10))
		assert.Equal(t, connBuffer, n)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(start))

		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		time.AfterFunc(time.Minute, func() { _, _ = server.Read(make([]byte, 10)) })
		n, err = client.Write(make([]byte, 10))
		assert.Equal(t, 10, n)
		assert.NoError(t, err)
		assert.Equal(t, time.Hour+time.Minute, time.Since(start))
	})
}
