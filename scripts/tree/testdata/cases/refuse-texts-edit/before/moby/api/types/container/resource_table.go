package container

var ResourceFields = []*ResourceField{
	{Name: "A", Flag: "a", Kind: "k", Most: 1 << 3, Help: "As", at: pointer(f)},
}
