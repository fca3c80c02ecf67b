package httpapi

import (
	"errors"
	"fmt"
	"net/http"
)

const maxRedirects = 3

var errRedirect = errors.New("redirect refused")

// checkRedirect lets a redirect pass only if it stays where the credentials
// belong. Go's client would keep the Authorization header for another port of the
// same host, and would send a form again on 307 and 308.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		// Not shown: it may be made of a secret, and parsing has put it in lower
		// case, so that the secret would not be found and masked.
		return fmt.Errorf("%w: to another scheme than http and https", errRedirect)
	}
	if req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host {
		return fmt.Errorf("%w: from %s to %s", errRedirect, first.URL.Scheme+"://"+first.URL.Host, req.URL.Scheme+"://"+req.URL.Host)
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
	}
	return nil
}
