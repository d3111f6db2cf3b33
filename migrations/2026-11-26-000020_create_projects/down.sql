DROP TABLE templates, projects;
