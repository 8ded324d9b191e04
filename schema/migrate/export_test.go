package migrate

// Objects returns the names of all objects that a migration creates.
func Objects(name string) []string {
	up, _, err := parts(name)
	if err != nil {
		panic(err)
	}
	_, names := objects(up)
	return names
}

var Identifiers = identifiers
