"""The one process of a Tillstone payment edge node."""
