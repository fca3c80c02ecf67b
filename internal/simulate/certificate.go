package simulate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"time"
)

// authority signs the certificates of all hosts of the process.
var authority = sync.OnceValue(func() tls.Certificate {
	return certificate(&x509.Certificate{
		Subject: pkix.Name{CommonName: "simulate"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
})

// CA returns the certificate, in PEM, that clients have to trust to reach a
// [Network] by https. It is made once per process.
func CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority().Leaf.Raw}))
}

// configs are the server settings by host name; a handshake needs no new key.
var configs sync.Map

func serverTLS(name string) *tls.Config {
	if c, ok := configs.Load(name); ok {
		return c.(*tls.Config)
	}
	template := &x509.Certificate{DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	ca := authority()
	c, _ := configs.LoadOrStore(name, &tls.Config{
		MinVersion:             tls.VersionTLS12,
		Certificates:           []tls.Certificate{certificate(template, &ca)},
		SessionTicketsDisabled: true, // their keys would depend on the clock of one bubble
	})
	return c.(*tls.Config)
}

// certificate completes template, which the issuer signs, or itself if that is
// nil. It is valid in the fake time of a bubble, which starts in 2000, as well.
func certificate(template *x509.Certificate, issuer *tls.Certificate) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail.
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	template.NotAfter = time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
	if issuer == nil {
		issuer = &tls.Certificate{Leaf: template, PrivateKey: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, &key.PublicKey, issuer.PrivateKey)
	if err != nil {
		panic(err) // The templates are constant.
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
