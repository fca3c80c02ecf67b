package exporter

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// HealthCheck asks the exporter that listens on addresses whether it serves, for images
// without a shell. Any status below 500 is healthy: with TLS, the server answers plain
// HTTP with 400, and with basic authentication with 401.
func HealthCheck(ctx context.Context, addresses []string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("--healthcheck: --web.listen-address %q: %w", address, err)
		}
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			host = "localhost"
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/-/healthy", nil)
		if err != nil {
			return fmt.Errorf("--healthcheck: %w", err)
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("--healthcheck: %w", err)
		}
		_ = response.Body.Close()
		if response.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("--healthcheck: %s answers %s", request.URL, response.Status)
		}
	}
	return nil
}
