"""The classes that users import, over log and lake; `spymaster` itself names them."""
