package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Digest returns a text that changes with anything written about the account,
// common keys and what came from the environment included. It tells nothing of
// what it was made from.
func (s *Section) Digest() string {
	sum := sha256.New()
	digest(sum, s.account)
	return hex.EncodeToString(sum.Sum(nil))
}

func digest(w io.Writer, n *node) {
	_, _ = fmt.Fprintf(w, "%d %q %s %q %d\n", n.kind, n.key, n.tag, n.text, len(n.items)) // a hash takes everything
	for _, item := range n.items {
		digest(w, item)
	}
}
