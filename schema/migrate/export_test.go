package migrate

// Objects are the names of all that a migration makes.
func Objects(name string) []string {
	up, _, err := parts(name)
	if err != nil {
		panic(err)
	}
	_, names := objects(up)
	return names
}

var Identifiers = identifiers
