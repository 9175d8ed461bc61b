package container

var ResourceFields = []*ResourceField{
	{Name: "B", Flag: "b", Kind: "k", Most: 2, Help: "Bs", at: pointer(f)},
	{Name: "A", Flag: "a", Kind: "k", Most: 1 << 3, Help: "As", at: pointer(f)},
}
