// Imports, one at a time for each customer; orders, numbered without gaps; a courier, on one instance; a nightly report: however many instances run.
//   ConnectionStrings__Default='Host=…' dotnet run --project samples/WebService
//   curl -X POST http://localhost:5000/customers/42/import
await using var app = await WebService.Service.CreateAsync(args);
await app.RunAsync();
