package hearpack.tests

import org.junit.runner.Description
import org.junit.runner.JUnitCore
import org.junit.runner.Request
import org.junit.runner.notification.Failure
import org.junit.runner.notification.RunListener

/** Runs test classes in one JVM and prints one line a test: `ok NAME`, or `FAILED NAME` and the trace, indented. */
object Runner {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val core = JUnitCore()
        core.addListener(Printer())
        val result = core.run(Request.classes(*arguments.map { Class.forName(it) }.toTypedArray()))
        println("done ${result.runCount} ${result.failureCount}")
        System.out.flush()
        // Native threads of the library must not keep the JVM; the outcome was printed.
        Runtime.getRuntime().halt(0)
    }
}

private class Printer : RunListener() {
    private val failed = mutableMapOf<Description, Failure>()

    override fun testFailure(failure: Failure) {
        failed[failure.description] = failure
        if (failure.description.methodName == null) testFinished(failure.description)
    }

    override fun testFinished(description: Description) {
        val name = "${description.testClass?.simpleName}.${description.methodName}"
        val failure = failed[description]
        println(if (failure == null) "ok $name" else "FAILED $name")
        failure
            ?.trace
            ?.lines()
            ?.take(8)
            ?.forEach { println("    $it") }
    }
}
