package exporter

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

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
		if _, err := bcrypt.Cost([]byte(hash.Value)); err != nil {
			faults = append(faults, fmt.Sprintf("%s:%d: basic_auth_users.%s: the password is not a bcrypt hash; create one with `htpasswd -nB %s`", path, hash.Line, user, user))
		}
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		return fmt.Errorf("--web.config.file: %s", faults[0])
	}
	if err := web.Validate(path); err != nil {
		return fmt.Errorf("--web.config.file %s: %s", path, strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}
