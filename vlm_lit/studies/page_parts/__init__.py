"""Parts of pages and documents: templates, tables, pictures, wording."""
