package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// writeCertificate writes a certificate of its own authority for 127.0.0.1, and its
// key, into dir.
func writeCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "balance_exporter"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		return writeFile(t, dir, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

func TestTLSAndBasicAuthBetweenPrometheusAndTheExporter(t *testing.T) {
	t.Parallel()
	const password = "a password of the tests"
	dir := t.TempDir()
	certificate, key := writeCertificate(t, dir)
	strange, _ := writeCertificate(t, t.TempDir())
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	web := writeFile(t, dir, "web.yml", fmt.Sprintf(`
tls_server_config: {cert_file: %s, key_file: %s, min_version: TLS13}
basic_auth_users: {prometheus: %q}
`, filepath.Base(certificate), filepath.Base(key), hash))
	out, err := output(t, nil, "promtool", "check", "web-config", web)
	require.NoError(t, err, out)

	sim := startSimulator(t, "812.5")
	p := start(t, "balance_exporter", "--web.listen-address=127.0.0.1:0", "--web.config.file="+web,
		"--config.file="+writeFile(t, dir, "balance_exporter.yml", "accounts:\n"+sim.account("messaging")))
	address := p.listens(t)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	eventually(t, 20*time.Second, func() error {
		_, _, err := get(trusting, "https://"+address+"/metrics", nil)
		if err == nil {
			return errors.New("it answers every client")
		}
		if strings.Contains(err.Error(), "401 Unauthorized") {
			return nil
		}
		return err
	}, p)
	assert.Zero(t, sim.Requests.Len(), "a scrape that is turned away asks no provider")

	passwordFile := writeFile(t, dir, "password", password+"\n")
	job := func(name, ca, scheme, auth string) string {
		return fmt.Sprintf(`
  - job_name: %s
    scheme: %s
    tls_config: {ca_file: %s}
    %s
    static_configs: [{targets: [%q]}]
`, name, scheme, ca, auth, address)
	}
	right := fmt.Sprintf("basic_auth: {username: prometheus, password_file: %s}", passwordFile)
	prom := startPrometheus(t, prometheusConfig{main: "global: {scrape_interval: 2s, scrape_timeout: 2s}\nscrape_configs:\n" +
		job("right", certificate, "https", right) +
		job("without_password", certificate, "https", "") +
		job("wrong_password", certificate, "https", "basic_auth: {username: prometheus, password: wrong}") +
		job("wrong_authority", strange, "https", right) +
		job("without_tls", certificate, "http", right)})

	prom.becomes(30*time.Second, `account_balance`, 812.5)
	prom.becomes(30*time.Second, `count(up)`, 5)
	prom.mustBe(1, `up{job="right"}`)
	prom.mustBe(4, `count(up{job!="right"} == 0)`)
	prom.mustBe(1, `count(account_balance{job="right"})`)

	targets, err := prom.Targets(t.Context())
	require.NoError(t, err)
	reasons := map[string]string{}
	for _, target := range targets.Active {
		reasons[string(target.Labels["job"])] = target.LastError
		assert.Equal(t, target.Labels["job"] == "right", target.Health == promapi.HealthGood, target.Labels)
	}
	assert.Empty(t, reasons["right"])
	assert.Contains(t, reasons["without_password"], "401")
	assert.Contains(t, reasons["wrong_password"], "401")
	assert.Contains(t, reasons["wrong_authority"], "certificate")
	assert.Contains(t, reasons["without_tls"], "400")
	assert.Equal(t, 2, sim.Requests.Len(), "one balance and one price list, whatever other clients sent")
}
