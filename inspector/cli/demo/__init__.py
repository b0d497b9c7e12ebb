"""`inspector demo` and the product that it makes up."""
