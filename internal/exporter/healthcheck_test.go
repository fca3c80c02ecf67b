package exporter_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/exporter"
)

func TestHealthCheck(t *testing.T) {
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/-/healthy", r.URL.Path)
		w.WriteHeader(status)
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	encrypted := httptest.NewTLSServer(handler)
	defer encrypted.Close()
	address := plain.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)

	for _, a := range []string{address, ":" + port, "0.0.0.0:" + port, "[::]:" + port, encrypted.Listener.Addr().String()} {
		assert.NoError(t, exporter.HealthCheck(t.Context(), []string{a}), a)
	}
	status = http.StatusUnauthorized // basic authentication
	assert.NoError(t, exporter.HealthCheck(t.Context(), []string{address}))
	status = http.StatusServiceUnavailable
	assert.EqualError(t, exporter.HealthCheck(t.Context(), []string{address}), "--healthcheck: http://"+address+"/-/healthy answers 503 Service Unavailable")
	plain.Close()
	assert.ErrorContains(t, exporter.HealthCheck(t.Context(), []string{encrypted.Listener.Addr().String(), address}), "refused")
	assert.ErrorContains(t, exporter.HealthCheck(t.Context(), []string{"nonsense"}), `--healthcheck: --web.listen-address "nonsense": `)
}
