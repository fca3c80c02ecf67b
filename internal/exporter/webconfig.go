package exporter

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// bcryptHash matches what bcrypt.Cost does not check: the salt and the digest.
var bcryptHash = regexp.MustCompile(`^\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}$`)

// checkWebConfig returns what is wrong with the file of --web.config.file; nil for no
// file. The library reads it again for each connection, and its errors do not name the
// user.
func checkWebConfig(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path) // reading a pipe would block
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return fmt.Errorf("--web.config.file: %w; name a readable file", err)
	}
	var users struct {
		BasicAuth map[string]yaml.Node `yaml:"basic_auth_users"`
	}
	_ = yaml.Unmarshal(text, &users) // web.Validate reports what is not YAML
	var faults []string
	for user, hash := range users.BasicAuth {
		if _, err := bcrypt.Cost([]byte(hash.Value)); err != nil || !bcryptHash.MatchString(hash.Value) {
			faults = append(faults, fmt.Sprintf("--web.config.file %s:%d: basic_auth_users.%s: the password is not a bcrypt hash; create one with `htpasswd -nB %s`", path, hash.Line, user, user))
		}
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		return errors.New(strings.Join(faults, "\n"))
	}
	if err := web.Validate(path); err != nil {
		return fmt.Errorf("--web.config.file %s: %s", path, strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}
