using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;

namespace DbLock.Tests;

/// <summary>Each package's public face, held to a text file that a reviewer has read. A change of one is a change of the other.</summary>
public sealed class PublicApiTests
{
    [Theory, InlineData("DbLock.Abstractions"), InlineData("DbLock.Npgsql"), InlineData("DbLock.AdoNet"), InlineData("DbLock.Hosting"), InlineData("DbLock.InMemory")]
    public void The_public_face_is_the_reviewed_one(string assembly)
    {
        var actual = Describe(Assembly.Load(assembly));
        var reviewed = Path.Combine(AppContext.BaseDirectory, "PublicApi", assembly + ".txt");
        if (!File.Exists(reviewed) || File.ReadAllText(reviewed) != actual)
        {
            var received = Path.Combine(Compiler.Repository, "tests", "DbLock.Tests", "PublicApi", assembly + ".received.txt");
            File.WriteAllText(received, actual);
            Assert.Fail($"The public face of {assembly} is not the reviewed one: compare {received} with the file beside it, and replace that if the change is meant.");
        }
    }

    private static string Describe(Assembly assembly)
    {
        var text = new StringBuilder();
        foreach (var type in assembly.GetExportedTypes().Where(type => !type.FullName!.Contains('<', StringComparison.Ordinal)).OrderBy(type => type.FullName, StringComparer.Ordinal))
        {
            text.Append(type.IsInterface ? "interface " : type.IsEnum ? "enum " : type.IsValueType ? "struct " : type is { IsAbstract: true, IsSealed: true } ? "static class "
                : type.IsAbstract ? "abstract class " : type.IsSealed ? "sealed class " : "class ").Append(type.FullName);
            if (type.BaseType is { } parent && parent != typeof(object) && parent != typeof(ValueType) && parent != typeof(Enum))
            {
                text.Append(" : ").Append(Name(parent));
            }

            text.Append('\n');
            foreach (var line in type.GetMembers(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly)
                .Select(Describe).OfType<string>().Order(StringComparer.Ordinal))
            {
                text.Append("  ").Append(line).Append('\n');
            }
        }

        return text.ToString();
    }

    private static string? Describe(MemberInfo member)
    {
        if (member is MethodInfo && member.IsDefined(typeof(CompilerGeneratedAttribute)))
        {
            return null;
        }

        switch (member)
        {
            case FieldInfo { IsPublic: true, IsSpecialName: false } field:
                return field.IsLiteral ? $"{field.Name} = {field.GetRawConstantValue()}" : $"{Name(field.FieldType)} {field.Name}";
            case ConstructorInfo { IsPublic: true } constructor:
                return $"new({Parameters(constructor)})";
            case PropertyInfo property when property.GetAccessors().Length > 0:
                var access = string.Concat(property.GetAccessors().Select(accessor => accessor.ReturnType == typeof(void) ? " set;" : " get;").Order());
                return $"{(property.GetAccessors()[0].IsStatic ? "static " : "")}{Name(property.PropertyType)} {property.Name} {{{access} }}";
            case MethodInfo method when (method.IsPublic || method.IsFamily) && (!method.IsSpecialName || method.Name.StartsWith("op_", StringComparison.Ordinal)):
                var obsolete = method.GetCustomAttribute<ObsoleteAttribute>() is { } o ? $" [error: {o.Message}]" : "";
                var generic = method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(Name))}>" : "";
                return $"{(method.IsStatic ? "static " : method.IsAbstract ? "abstract " : "")}{Name(method.ReturnType)} {method.Name}{generic}({Parameters(method)}){obsolete}";
            default:
                return null;
        }
    }

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{Name(parameter.ParameterType)} {parameter.Name}{(parameter.HasDefaultValue ? $" = {parameter.DefaultValue ?? "default"}" : "")}"));

    private static string Name(Type type)
    {
        if (type.IsByRef)
        {
            return "in " + Name(type.GetElementType()!);
        }

        var name = type.Name.Split('`')[0];
        return type.IsGenericType ? $"{name}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : type.IsArray ? Name(type.GetElementType()!) + "[]" : name;
    }
}
